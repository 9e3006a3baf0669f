#include "engine/random.h"

#include <numeric>

#include "engine/dispatch.h"
#include "kernels/basic/philox.h"
#include "kernels/basic/random.h"

namespace moat::engine {

namespace {

void require_stream(const RandomKey& key, Where where = Where::here()) {
  require(
      key.stream < 1u << 24,
      [&] { return text("random: a key's stream must be below 2^24, got ", key.stream); }, where);
}

Tensor draw(const Shape& shape, const Tensor& samples_any, const RandomKey& key,
            kernels::Distribution distribution, double p, double q, Dtype dtype) {
  require_stream(key);
  require(shape.rank() > 0 && samples_any.defined() && samples_any.dtype() == Dtype::i32 &&
              samples_any.shape() == Shape{shape[0]},
          [&] {
            return text("random: samples must be int32 [n] with one id per row of ", shape.str(),
                        ", got ", name_of(samples_any.dtype()), " ", samples_any.shape().str());
          });
  require(is_floating(dtype),
          [&] { return text("random: the dtype must be floating-point, got ", name_of(dtype)); });
  const Tensor samples = samples_any.contiguous();
  const Tensor y = Tensor::empty(shape, dtype, samples.device());
  int64_t elements = 1;
  for (int axis = 1; axis < shape.rank(); ++axis) elements *= shape[axis];
  const int channels = shape.rank() == 4 ? to_int(shape[3]) : 1;
  dispatch(y.device(), [&](auto on) {
    return kernels::random(on, {.samples = samples.data_as<int32_t>(),
                                .y = y.data(),
                                .rows = to_int(shape[0]),
                                .pixels = channels == 0 ? 0 : elements / channels,
                                .channels = channels,
                                .seed = key.seed,
                                .iteration = key.iteration,
                                .purpose = static_cast<uint32_t>(key.purpose),
                                .stream = key.stream,
                                .distribution = distribution,
                                .p = p,
                                .q = q,
                                .dtype = dtype});
  });
  return y;
}

}  // namespace

Tensor random_uniform(const Shape& shape, const Tensor& samples, const RandomKey& key, double low,
                      double high, Dtype dtype) {
  return draw(shape, samples, key, kernels::Distribution::uniform, low, high, dtype);
}

Tensor random_normal(const Shape& shape, const Tensor& samples, const RandomKey& key, double mean,
                     double deviation, Dtype dtype) {
  return draw(shape, samples, key, kernels::Distribution::normal, mean, deviation, dtype);
}

uint32_t random_bits(const RandomKey& key, uint32_t sample, uint32_t element) {
  require_stream(key);
  const uint32_t use = static_cast<uint32_t>(key.purpose) << 24 | key.stream;
  return kernels::philox({element / 4, sample, key.iteration, use}, key.seed)[element % 4];
}

std::vector<int32_t> random_permutation(int64_t n, const RandomKey& key) {
  std::vector<int32_t> order(static_cast<size_t>(to_int(n)));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;) {
    // The upper word of bits · (i + 1): uniform in [0, i] within (i + 1) / 2^32.
    const uint64_t bits = random_bits(key, 0, static_cast<uint32_t>(i));
    std::swap(order[i], order[bits * (i + 1) >> 32]);
  }
  return order;
}

}  // namespace moat::engine
