#pragma once

#include "kernels/cuda.cuh"

namespace simt::self_test {

// Small kernels for the tests of streams and graphs, one block of `count` threads each.
void add(cudaStream_t stream, int* values, int count, int term);
void scale(cudaStream_t stream, int* values, int count, int factor);

void reverse(cudaStream_t stream, int* values, int count);  // through static shared memory

// A kernel whose argument is as large and aligned as a tensor map.
struct alignas(128) Terms {
  int of[64];
};
void add_each(cudaStream_t stream, int* values, int count, const Terms& terms);

}  // namespace simt::self_test
