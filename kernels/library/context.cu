#include "kernels/library/context.h"

#include "kernels/cuda.cuh"

namespace moat::kernels {

// Ampere and later: earlier chips have neither bfloat16 nor tf32.
bool supports(Cuda, Dtype dtype) {
  constexpr int kAmpere = 8;
  int device = 0, major = 0;
  return (dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::bf16) &&
         cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major >= kAmpere;
}

}  // namespace moat::kernels
