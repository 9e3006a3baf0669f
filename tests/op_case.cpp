#include "tests/op_case.h"

#include <algorithm>
#include <cstring>

#include "engine/random.h"

namespace moat::tests {

using namespace engine;

namespace {
Tensor sample_ids(int64_t n) {
  Tensor t = Tensor::empty({n}, Dtype::i32);
  for (int64_t i = 0; i < n; ++i) t.data_as<int32_t>()[i] = static_cast<int32_t>(i);
  return t;
}
}  // namespace

Tensor randn(const Shape& shape, uint32_t stream) {
  // Beyond a million draws, which only the microbenchmark asks for, they repeat.
  constexpr int64_t kDrawn = 1'048'573;
  if (const int64_t count = shape.count(); count > kDrawn) {
    const Tensor drawn = randn({kDrawn}, stream), t = Tensor::empty(shape, Dtype::f64);
    for (int64_t at = 0; at < count; at += kDrawn)
      std::copy_n(drawn.data_as<double>(), std::min(kDrawn, count - at), t.data_as<double>() + at);
    return t;
  }
  const Shape rows = shape.rank() ? shape : Shape{1};
  return random_normal(rows, sample_ids(rows[0]), {.seed = 1, .stream = stream}, 0, 1, Dtype::f64)
      .reshaped(shape);
}

Tensor rand_ints(const Shape& shape, int low, int high, uint32_t stream) {
  Tensor t = Tensor::empty(shape, Dtype::i32);
  for (int64_t i = 0; i < t.size(); ++i)
    t.data_as<int32_t>()[i] = low + static_cast<int>(random_bits({.seed = 2, .stream = stream},
                                                                 static_cast<uint32_t>(i)) %
                                                     static_cast<uint32_t>(high - low));
  return t;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(Device{}).contiguous(), y = b.to(Device{}).contiguous();
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         (x.nbytes() == 0 || std::memcmp(x.data(), y.data(), x.nbytes()) == 0);
}

std::vector<OpCase> all_cases(Scale scale) {
  std::vector<OpCase> out;
  for (auto family :
       {elementwise_cases, shape_cases, reduce_cases, linalg_cases, vision_cases, norm_cases,
        attention_cases, loss_cases, moe_cases, routing_cases, ball_cases})
    for (OpCase& c : family(scale)) out.push_back(std::move(c));
  return out;
}

}  // namespace moat::tests
