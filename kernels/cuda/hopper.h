#pragma once

#include "kernels/cuda.cuh"

namespace moat::kernels {

// Hopper's own products need its instructions, which no later chip has. They are chosen by the chip
// and the alignment of rows alone: a row's bits do not depend on the number of rows.
inline bool on_hopper() {
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major == 9;
}

}  // namespace moat::kernels
