#pragma once

#include "kernels/basic/gemm.h"

// Products by cuBLASLt, behind gemm.cu: m, n and k are positive and the formats are legal. A bias
// has the format of y. Every row of a float64 y holds it already, and the product is added.
// In the interpreter tests/simt/library/gemm.cpp stands in for the library.
namespace moat::kernels::cublaslt {

size_t workspace(Cuda, const Gemm&);
Status run(Cuda, const Gemm&);

}  // namespace moat::kernels::cublaslt
