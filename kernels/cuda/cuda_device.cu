#include "kernels/cuda/cuda_device.h"

#include "kernels/cuda.cuh"

namespace moat::kernels {

int current_cuda_device() {
  int device = -1;
  return cudaGetDevice(&device) == cudaSuccess ? device : -1;
}

}  // namespace moat::kernels
