#pragma once

// Grouped products by mma.sync, on any chip from sm_80 on: what kernels/experts/grouped_gemm.cu
// calls where Hopper's do not serve. Arguments have been checked there.

#include "kernels/experts/grouped_gemm.h"

namespace moat::kernels::sm80 {

// Rows and columns of a tile.
enum class Extent { small = 64, large = 128 };

// The extent that suits what the host knows. All sums are the same bits in both.
Extent extent(const GroupedGemm&);
Extent extent(const GroupedGemmWeightGrad&);
// Large tiles are for operands in rows of whole, aligned 16 bytes; those of weight gradients, for
// bfloat16 and tf32.
bool can_run(const GroupedGemm&, Extent);
bool can_run(const GroupedGemmWeightGrad&, Extent);

// Pieces of an expert's rows in the weight gradient, each summed apart: 1 to 16. Extents decide
// alone, for the bits depend on it.
int splits(const GroupedGemmWeightGrad&, Extent);
size_t workspace(const GroupedGemmWeightGrad&, int splits);

Status run(Cuda, const GroupedGemm&, Extent);
Status run(Cuda, const GroupedGemmWeightGrad&, Extent, int splits);  // d_w
Status run_bias(Cuda, const GroupedGemmWeightGrad&);                 // d_bias

}  // namespace moat::kernels::sm80
