#include <omp.h>

#include <catch2/catch.hpp>

#include "engine/ops/linalg.h"
#include "engine/tape.h"
#include "tests/op_case.h"

using namespace moat::engine;
using namespace moat::tests;

namespace {

struct Product {
  int64_t in, out;
};

Tensor integers(const Shape& shape, uint32_t stream) {
  const Tensor ints = rand_ints(shape, -3, 4, stream);
  Tensor t = Tensor::empty(shape, Dtype::f64);
  for (int64_t i = 0; i < t.size(); ++i) f64(t)[i] = ints.data_as<int32_t>()[i];
  return t;
}

}  // namespace

TEST_CASE("linear: a row's bits depend on neither rows, place nor threads", "[gemm]") {
  const auto p = GENERATE(Product{64, 10}, Product{512, 10}, Product{33, 300}, Product{384, 640});
  CAPTURE(p.in, p.out);
  const Tensor x = randn({256, p.in}, 1).to(Dtype::f32), w = randn({p.out, p.in}, 2).to(Dtype::f32),
               bias = randn({p.out}, 3).to(Dtype::f32),
               residual = randn({256, p.out}, 4).to(Dtype::f32);
  const Tensor whole = linear(x, w, bias), sum = linear(x, w, bias, residual),
               product = matmul(x, w.permuted({1, 0}));
  for (const auto& [from, to] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {5, 6}, {3, 10}, {255, 256}, {1, 65}, {100, 200}}) {
    CAPTURE(from, to);
    const Tensor rows = x.sliced(0, from, to);
    CHECK(same_bits(linear(rows, w, bias), whole.sliced(0, from, to)));
    CHECK(same_bits(linear(rows, w, bias, residual.sliced(0, from, to)), sum.sliced(0, from, to)));
    CHECK(same_bits(matmul(rows, w.permuted({1, 0})), product.sliced(0, from, to)));
  }
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Tensor one = linear(x, w, bias);
  omp_set_num_threads(threads);
  CHECK(same_bits(one, whole));
}

TEST_CASE("linear: small integers are exact, gradients too", "[gemm]") {
  const int64_t rows = GENERATE(1, 63, 64, 65, 200);
  const Tensor x = integers({rows, 70}, 1), w = integers({300, 70}, 2), bias = integers({300}, 3),
               d_y = integers({rows, 300}, 4);
  const auto all = [&](Dtype dtype) -> Tensors {
    Tape tape;
    const Tensor vx = tape.watch(x.to(dtype)), vw = tape.watch(w.to(dtype)),
                 vb = tape.watch(bias.to(dtype));
    const Tensor y = linear(vx, vw, vb);
    const Gradients grads = tape.gradients(y, d_y.to(dtype));
    return {y, grads.of(vx), grads.of(vw), grads.of(vb)};
  };
  const Tensors got = all(Dtype::f32), want = all(Dtype::f64);
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], want[i].to(Dtype::f32)));
}

TEST_CASE("linear and matmul: messages name what does not fit", "[gemm]") {
  using Catch::Contains;
  CHECK_THROWS_WITH(matmul(Tensor::zeros({2, 3}), Tensor::zeros({4, 5})),
                    Contains("matmul: a must be [m, k] and b [k, n], got [2, 3] and [4, 5]"));
  CHECK_THROWS_WITH(matmul(Tensor::zeros({2, 3}), Tensor::zeros({3, 5}, Dtype::f64)),
                    Contains("share a floating dtype"));
  CHECK_THROWS_WITH(linear(Tensor::zeros({2, 3}), Tensor::zeros({5, 4}), {}),
                    Contains("weight [out, in]"));
  CHECK_THROWS_WITH(linear(Tensor::zeros({2, 3}), Tensor::zeros({5, 3}), Tensor::zeros({4})),
                    Contains("bias must be float32 [5]"));
  CHECK_THROWS_WITH(linear(Tensor::zeros({2, 3}), Tensor::zeros({5, 3}), {}, Tensor::zeros({2, 4})),
                    Contains("linear: residual must be float32 [2, 5], got float32 [2, 4]"));
}
