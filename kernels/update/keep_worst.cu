#include "kernels/update/keep_worst.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/vector.cuh"

// A block per point: all its threads read what decides, then one writes it while all copy the
// point, where it is kept, in vectors of 16 bytes. A point that is not kept is not read.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // vectors of a thread

template <int N>
__global__ void __launch_bounds__(kThreads) keep_worst_kernel(KeepWorst a) {
  const int64_t point = blockIdx.x, row = a.rows[point];
  if (row < 0 || row >= a.images) return;
  const float loss = a.loss[point];
  const bool was_fooled = a.fooled_at[row] >= 0,
             wrong = !was_fooled && a.predicted[point] != a.labels[row],
             is_kept = wrong || (!was_fooled && loss > a.best_loss[row]);
  __syncthreads();  // fooled_at and best_loss are read by all before they change
  if (threadIdx.x == 0) {
    if (wrong) a.fooled_at[row] = a.number;
    if (is_kept) a.best_loss[row] = loss;
    if (!was_fooled && !wrong) atomicAdd(a.resisting, 1);
  }
  if (!is_kept) return;
  const float* from = a.points + point * a.pixels;
  float* to = a.worst + row * a.pixels;
  constexpr int64_t kStep = kThreads * N;
  for (int64_t i = int64_t{threadIdx.x} * N; i < a.pixels; i += kInFlight * kStep) {
    Vector<float, N> moved[kInFlight];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u)
      if (i + u * kStep < a.pixels) moved[u] = load<N>(from + i + u * kStep);
#pragma unroll
    for (int u = 0; u < kInFlight; ++u)
      if (i + u * kStep < a.pixels) store(to + i + u * kStep, moved[u]);
  }
}

}  // namespace

Status keep_worst(Cuda on, const KeepWorst& a) {
  if (a.n < 0 || a.images < 0 || a.pixels < 0 || a.number < 0) return Status::bad_args;
  if (cudaMemsetAsync(a.resisting, 0, sizeof(int32_t), on.stream) != cudaSuccess)
    return Status::launch_failed;
  return with_vector<float>(a.pixels, {a.points, a.worst}, [&]<int N>() {
    return launch(on, {dim3(static_cast<unsigned>(a.n)), dim3(kThreads)}, keep_worst_kernel<N>, a);
  });
}

}  // namespace moat::kernels
