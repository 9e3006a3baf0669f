#pragma once

// What cuBLASLt and cuDNN keep from call to call, behind Context::cuda_libraries(): each library's
// file has a state of its own, made on first use. No CUDA type is named here.

#include <memory>

#include "kernels/library/context.h"

namespace moat::kernels {

struct CudaLibraries {
  std::shared_ptr<void> cublaslt, cudnn;
};

template <class State>
State& cuda_library(Context& context, std::shared_ptr<void> CudaLibraries::*which) {
  if (!context.cuda_libraries()) context.cuda_libraries() = std::make_shared<CudaLibraries>();
  auto& slot = static_cast<CudaLibraries*>(context.cuda_libraries().get())->*which;
  if (!slot) slot = std::make_shared<State>();
  return *static_cast<State*>(slot.get());
}

}  // namespace moat::kernels
