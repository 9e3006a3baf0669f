#include "tests/simt/self_test/stream_kernels.h"

namespace simt::self_test {

namespace {

__global__ void add_kernel(int* values, int term) { values[threadIdx.x] += term; }
__global__ void scale_kernel(int* values, int factor) { values[threadIdx.x] *= factor; }
__global__ void add_each_kernel(int* values, const __grid_constant__ Terms terms) {
  if (reinterpret_cast<uintptr_t>(&terms) % alignof(Terms) == 0)
    values[threadIdx.x] += terms.of[threadIdx.x];
}

__global__ void reverse_kernel(int* values) {
  __shared__ int kept[64];
  kept[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

moat::kernels::Cuda on(cudaStream_t stream) { return {.stream = stream}; }

}  // namespace

void add(cudaStream_t stream, int* values, int count, int term) {
  launch(on(stream), {1, static_cast<unsigned>(count)}, add_kernel, values, term);
}
void scale(cudaStream_t stream, int* values, int count, int factor) {
  launch(on(stream), {1, static_cast<unsigned>(count)}, scale_kernel, values, factor);
}
void reverse(cudaStream_t stream, int* values, int count) {
  launch(on(stream), {1, static_cast<unsigned>(count)}, reverse_kernel, values);
}
void add_each(cudaStream_t stream, int* values, int count, const Terms& terms) {
  launch(on(stream), {1, static_cast<unsigned>(count)}, add_each_kernel, values, terms);
}

}  // namespace simt::self_test
