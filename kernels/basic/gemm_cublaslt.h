#pragma once

#include "kernels/basic/gemm.h"

// Products by cuBLASLt, behind gemm.cu: m, n and k are positive and the formats are legal. In the
// interpreter tests/simt/library/gemm.cpp stands in for it.
namespace moat::kernels::cublaslt {

size_t workspace(Cuda, const Gemm&);
Status run(Cuda, const Gemm&);

}  // namespace moat::kernels::cublaslt
