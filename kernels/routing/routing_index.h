#pragma once

#include "kernels/routing/token_pieces.h"
#include "kernels/target.h"

namespace moat::kernels {

// Sorts the (token, choice) pairs of a batch by expert: rows offsets[e] .. offsets[e + 1] of the
// sorted batch belong to expert e, in the order of (token, choice). A stable counting sort.
//
// With a capacity, each expert keeps at most that many pairs and the others are dropped: first
// choices are placed before second ones and so on; within a choice, tokens go in order, or by
// falling priority (Batch Prioritized Routing, Riquelme et al. 2021, with the best weight of each
// token; ties go to the lower token, NaN comes last). The same victims in every run.
// An expert outside [0, num_experts) is bad_args; on CUDA, where it cannot be refused, its pair is
// dropped. CUDA takes up to 11264 experts.
struct RoutingIndex {
  const int32_t* experts;  // [tokens, k]
  const void* priority;    // [tokens] or nullptr
  int32_t* offsets;        // [num_experts + 1]
  int32_t* row_token;      // [tokens · k]: token of a sorted row; -1 beyond offsets[num_experts]
  int32_t* slot_of;        // [tokens, k]: sorted row of a pair, -1 when dropped
  int tokens, k, num_experts;
  int capacity;          // pairs per expert; 0: unlimited
  Dtype priority_dtype;  // read when priority is given
  // [token_pieces(tokens).count, num_experts] as topk_gate writes them, or nullptr. With them CUDA
  // takes two launches in place of three. Not read on a CPU, nor where a capacity can drop a pair:
  // then pairs are counted in the order of placement. Wrong ones give wrong results.
  const int32_t* counts = nullptr;
};
Status routing_index(Cpu, const RoutingIndex&);
Status routing_index(Cuda, const RoutingIndex&);
size_t routing_index_workspace(Cpu, const RoutingIndex&);
size_t routing_index_workspace(Cuda, const RoutingIndex&);

}  // namespace moat::kernels
