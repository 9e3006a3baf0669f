#include "kernels/update/apgd_progress.h"

#include <cmath>

#include "kernels/cuda.cuh"
#include "kernels/cuda/vector.cuh"

// A block per image: all its threads read what decides, then one writes it while all copy the point
// and the gradient, if they move, in vectors of 16 bytes; what stays is not read.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

template <int N>
__global__ void __launch_bounds__(kThreads) progress_kernel(ApgdProgress a) {
  const unsigned i = blockIdx.x;
  const float loss = a.loss[i], best_before = a.best_loss[i];
  const bool is_best = loss > best_before || (best_before != best_before && loss == loss);
  const float best = is_best ? loss : best_before;
  const int32_t rises = a.rises[i] + (loss > a.last_loss[i]);
  const bool is_check = a.window > 0, stuck = !a.halved[i] && best <= a.checked_loss[i],
             halve = is_check && (rises <= a.rho * a.window || stuck);
  __syncthreads();  // all have read what now changes
  if (threadIdx.x == 0) {
    a.best_loss[i] = best;
    a.last_loss[i] = loss;
    a.rises[i] = is_check ? 0 : rises;
    if (halve) a.step[i] /= 2;
    if (is_check) {
      a.halved[i] = halve;
      a.checked_loss[i] = best;
    }
  }
  if (!is_best && !halve) return;  // where both hold, a jump leads to where the image is
  const int64_t first = int64_t{i} * a.pixels;
  const float *from = (is_best ? a.points : a.best_points) + first,
              *from_gradient = (is_best ? a.gradient : a.best_gradient) + first;
  float *to = (is_best ? a.best_points : a.points) + first,
        *to_gradient = (is_best ? a.best_gradient : a.gradient) + first;
  for (int64_t at = int64_t{threadIdx.x} * N; at < a.pixels; at += kThreads * N) {
    const Vector<float, N> point = load<N>(from + at), slope = load<N>(from_gradient + at);
    store(to + at, point);
    store(to_gradient + at, slope);
  }
}

}  // namespace

Status apgd_progress(Cuda on, const ApgdProgress& a) {
  if (a.n < 0 || a.pixels < 0 || a.window < 0 || !std::isfinite(a.rho)) return Status::bad_args;
  return with_vector<
      float>(a.pixels, {a.points, a.gradient, a.best_points, a.best_gradient}, [&]<int N>() {
    return launch(on, {dim3(static_cast<unsigned>(a.n)), dim3(kThreads)}, progress_kernel<N>, a);
  });
}

}  // namespace moat::kernels
