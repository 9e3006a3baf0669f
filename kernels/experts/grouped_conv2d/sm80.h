#pragma once

// Convolutions over experts by mma.sync, on any chip from sm_80 on: what
// kernels/experts/grouped_conv2d.cu calls where Hopper's do not serve. Arguments have been checked
// there.

#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_gemm/sm80.h"

namespace moat::kernels::sm80 {

// The extent that suits what the host knows. All sums are the same bits in both, but for those of
// weight gradients in pieces.
Extent extent(const ConvProduct&);
Extent extent(const GroupedConv2dWeightGrad&, Precision);
// Large tiles are for channels in whole, aligned 16 bytes; those of weight gradients, for bfloat16
// and tf32.
bool can_run(const ConvProduct&, Extent);
bool can_run(const GroupedConv2dWeightGrad&, Extent, Precision);

// Pieces of an expert's pixels in the weight gradient, each summed apart: 1 to 64. Extents decide
// alone, for the bits depend on it.
int splits(const GroupedConv2dWeightGrad&);
size_t workspace(const GroupedConv2dWeightGrad&, int splits);

Status run(Cuda, const ConvProduct&, Extent);
Status run(Cuda, const GroupedConv2dWeightGrad&, Extent, Precision, int splits);

}  // namespace moat::kernels::sm80
