#include "kernels/basic/finite.h"

#include <bit>

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // vectors of a thread

__device__ bool is_wild(double x) {
  return (std::bit_cast<uint64_t>(x) << 1) >= 0xffe0000000000000u;
}
__device__ bool is_wild(float x) { return (std::bit_cast<uint32_t>(x) << 1) >= 0xff000000u; }
__device__ bool is_wild(Bf16 x) { return is_wild(static_cast<float>(x)); }

__global__ void nothing_found_kernel(Finite a) {
  a.found[0] = 0;
  a.found[1] = a.count;
}

// Each value is read once, in vectors where x allows them; only blocks with a find touch the
// result.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) finite_kernel(Finite a) {
  __shared__ int64_t scratch[kThreads / kWarp];
  const T* x = static_cast<const T*>(a.x);
  const int64_t block = int64_t{blockIdx.x} * kThreads * kInFlight * N;
  const auto first_of = [&](int u) { return block + (int64_t{u} * kThreads + threadIdx.x) * N; };
  int64_t found = 0, first = a.count;
  const auto look_at = [&](T value, int64_t i) {
    if (!is_wild(value)) return;
    ++found;
    first = i < first ? i : first;
  };
  Vector<T, N> read[kInFlight];
#pragma unroll
  for (int u = 0; u < kInFlight; ++u)
    if (first_of(u) + N <= a.count) read[u] = load<N>(x + first_of(u));
#pragma unroll
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t at = first_of(u);
    if (at + N <= a.count) {
#pragma unroll
      for (int n = 0; n < N; ++n) look_at(read[u].values[n], at + n);
    } else {
      for (int64_t i = at; i < a.count; ++i) look_at(x[i], i);
    }
  }
  if (!__syncthreads_or(found > 0)) return;
  found = block_reduce<kThreads>(found, Sum(), scratch);
  first = block_reduce<kThreads>(first, Smallest(), scratch);
  if (threadIdx.x > 0) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(a.found), static_cast<unsigned long long>(found));
  atomicMin(reinterpret_cast<unsigned long long*>(a.found + 1),
            static_cast<unsigned long long>(first));
}

}  // namespace

Status finite(Cuda on, const Finite& a) {
  if (a.count < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const Status status = launch(on, {dim3(1), dim3(1)}, nothing_found_kernel, a);
    if (status != Status::ok) return status;
    return with_vector<T>(0, {a.x}, [&]<int N>() {
      return launch(on, {blocks_of(a.count, int64_t{kThreads} * kInFlight * N), dim3(kThreads)},
                    finite_kernel<T, N>, a);
    });
  });
}

}  // namespace moat::kernels
