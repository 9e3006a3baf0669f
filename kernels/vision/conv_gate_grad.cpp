#include "kernels/vision/conv_gate_grad.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/segments.h"

namespace moat::kernels {

namespace {

// Partial sums side by side, so that the loop is vector code in a fixed order.
constexpr int kLanes = 16;

template <class T>
void one_image(const ConvGateGrad& a, int64_t image, const compute_t<T>* bias) {
  using C = compute_t<T>;
  const int64_t size = int64_t{a.pixels} * a.channels, first = image * size;
  const auto *d = static_cast<const T*>(a.d_pre) + first, *y = static_cast<const T*>(a.y) + first;
  const auto* residual = a.residual ? static_cast<const T*>(a.residual) + first : nullptr;
  std::array<C, kLanes> sums{};
  for (int pixel = 0; pixel < a.pixels; ++pixel) {
    const int64_t at = int64_t{pixel} * a.channels;
    const auto term = [&](int c) {
      C convolved = y[at + c];
      if (bias) convolved -= bias[c];
      if (residual) convolved -= C(residual[at + c]);
      return C(d[at + c]) * convolved;
    };
    int c = 0;
    for (; c + kLanes <= a.channels; c += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) sums[size_t(lane)] += term(c + lane);
    for (; c < a.channels; ++c) sums[size_t(c % kLanes)] += term(c);
  }
  C sum = 0;
  for (C s : sums) sum += s;
  static_cast<C*>(a.d_gate)[image] = sum;
}

}  // namespace

Status conv_gate_grad(Cpu, const ConvGateGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (a.offsets && (!are_segments(a.offsets, a.segments) || a.offsets[a.segments] != a.n))
    return Status::bad_args;
  const int64_t grain = std::max<int64_t>(1, 16384 / (int64_t{a.pixels} * a.channels));
  return with_float(a.dtype, [&]<class T>() {
    const auto* bias = static_cast<const compute_t<T>*>(a.bias);
    parallel_for(a.n, grain, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        if (!bias) {
          one_image<T>(a, i, nullptr);
          continue;
        }
        const auto segment =
            std::upper_bound(a.offsets, a.offsets + a.segments + 1, int32_t(i)) - a.offsets - 1;
        one_image<T>(a, i, bias + segment * a.channels);
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
