#pragma once

// The one CUDA header of every .cu file. It is CUDA itself, or with MOAT_SIMT (preset `simt`) the
// interpreter of tests/simt, which runs the same source on a CPU and checks it.

#ifdef MOAT_SIMT
#include <simt/cuda.h>
#else
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <mutex>

#include "kernels/target.h"

namespace moat::kernels {

struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes = 0;  // dynamic shared memory per block
};

// Launches kernel(args…) on the target's stream. A grid without blocks is nothing to do.
template <class... Params, class... Args>
Status launch(Cuda on, const Grid& grid, void (*kernel)(Params...), const Args&... args) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return Status::ok;
  constexpr size_t kWithoutAsking = 48 * 1024;
  // The limit is the kernel's: no other thread may lower it before this launch.
  static std::mutex limits;
  std::unique_lock lock(limits, std::defer_lock);
  if (grid.shared_bytes > kWithoutAsking) {
    lock.lock();
    if (cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(grid.shared_bytes)) != cudaSuccess)
      return Status::launch_failed;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = on.stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...) == cudaSuccess
             ? Status::ok
             : Status::launch_failed;
}

// The block's dynamic shared memory, aligned to 1024 bytes (TMA's 128-byte swizzle asks for that).
template <class T>
__device__ T* shared_memory() {
#ifdef MOAT_SIMT
  return reinterpret_cast<T*>(simt::shared_memory());
#else
  extern __shared__ __align__(1024) unsigned char moat_shared_memory[];
  return reinterpret_cast<T*>(moat_shared_memory);
#endif
}

// Multiprocessors of the current device: how many blocks a persistent kernel starts.
inline int multiprocessors() {
  int device = 0, count = 1;
  if (cudaGetDevice(&device) == cudaSuccess)
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

}  // namespace moat::kernels
