#pragma once

#include "kernels/cuda.cuh"

namespace moat::tests {

// A launch of one cluster of `blocks` blocks.
template <class... Params, class... Args>
kernels::Status launch_cluster(kernels::Cuda on, unsigned blocks, unsigned threads,
                               size_t shared_bytes, void (*kernel)(Params...), Args... args) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = blocks;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on.stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...) == cudaSuccess
             ? kernels::Status::ok
             : kernels::Status::launch_failed;
}

}  // namespace moat::tests
