#pragma once

#include "kernels/basic/gemm.h"

// Products by cuBLASLt, behind gemm.cu: m, n and k are positive and the formats are legal. A bias
// has the format of y; a float64 product has none. What is added may be y.
// In the interpreter tests/simt/library/gemm.cpp stands in for the library.
namespace moat::kernels::cublaslt {

size_t workspace(Cuda, const Gemm&);
Status run(Cuda, const Gemm&);

}  // namespace moat::kernels::cublaslt
