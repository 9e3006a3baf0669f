#pragma once

// Grouped products on Hopper's tensor cores (wgmma and TMA): what kernels/experts/grouped_gemm.cu
// calls on devices of compute capability 9.0. Arguments have been checked there.

#include "kernels/experts/grouped_gemm.h"
#include "kernels/experts/grouped_gemm/heuristics.h"

namespace moat::kernels::sm90 {

// bfloat16, with rows of x, w and the results that are whole multiples of 16 bytes and aligned to
// that. (TMA asks for it.) Otherwise the products of mainloop_sm80.cuh serve.
bool can_run(const GroupedGemm&);
bool can_run(const GroupedGemmWeightGrad&);

// d_w alone; the columns of d_y are summed elsewhere. No workspace for the product.
size_t workspace(const GroupedGemmWeightGrad&);
Status run(Cuda, const GroupedGemm&);
Status run(Cuda, const GroupedGemmWeightGrad&);

// With a tile of the caller's choice: one of kGroupedTileShapes, of kWeightGradTileShapes.
bool can_run(const GroupedGemm&, const GroupedTileShape&);
size_t workspace(const GroupedGemmWeightGrad&, const WeightGradPlan&);
Status run(Cuda, const GroupedGemm&, const GroupedTileShape&);
Status run(Cuda, const GroupedGemmWeightGrad&, const WeightGradPlan&);

}  // namespace moat::kernels::sm90
