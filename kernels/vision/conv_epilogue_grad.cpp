#include "kernels/vision/conv_epilogue_grad.h"

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
void one_image(const ConvEpilogueGrad& a, int64_t image, const compute_t<T>* bias) {
  using C = compute_t<T>;
  const int64_t size = int64_t{a.pixels} * a.channels, first = image * size;
  const auto *d_y = static_cast<const T*>(a.d_y) + first, *y = static_cast<const T*>(a.y) + first;
  const auto* residual = a.residual ? static_cast<const T*>(a.residual) + first : nullptr;
  auto* d_pre = a.d_pre ? static_cast<T*>(a.d_pre) + first : nullptr;
  const bool relu = a.activation == ConvActivation::relu;
  if (relu || d_pre)
    for (int64_t i = 0; i < size; ++i) {
      const T d = d_y[i];  // read in any case: without a branch the loop is vector code
      d_pre[i] = !relu || C(y[i]) > 0 ? d : T{};
    }
  if (!a.d_gate) return;
  const T* d = d_pre ? d_pre : d_y;
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

Status conv_epilogue_grad(Cpu, const ConvEpilogueGrad& a) {
  if (!is_valid_epilogue_grad(a)) return Status::bad_args;
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
