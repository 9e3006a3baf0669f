#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// The way back from dispatch_rows, with the gate's weights:
//   y[t, :] = sum over j of weights[t, j] · rows[slot_of[t, j], :], in the order of j
// in float32 or better; without weights every one is 1. A dropped choice (-1) adds nothing, a token
// without any is zero. A slot outside [-1, row_count) is bad_args; on CUDA, where it cannot be
// refused, its choice is dropped.
struct CombineRows {
  const void* rows;        // [row_count, width]
  const void* weights;     // [tokens, k], float32 for bfloat16 rows, or nullptr
  const int32_t* slot_of;  // [tokens, k]
  void* y;                 // [tokens, width]
  int tokens, k, row_count;
  int64_t width;
  Dtype dtype;  // of rows and y
};
Status combine_rows(Cpu, const CombineRows&);
Status combine_rows(Cuda, const CombineRows&);

// d_rows[slot_of[t, j], :] = weights[t, j] · d_y[t, :], zeros in rows that no choice has;
// d_weights[t, j] = <d_y[t, :], rows[slot_of[t, j], :]>, 0 for a dropped choice.
// Either result may be nullptr: it is then not computed, and `rows` is read for d_weights alone.
// No two choices share a slot, as routing_index promises.
struct CombineRowsGrad {
  const void* d_y;         // [tokens, width]
  const void* rows;        // [row_count, width]
  const void* weights;     // [tokens, k]
  const int32_t* slot_of;  // [tokens, k]
  void* d_rows;            // [row_count, width] or nullptr
  void* d_weights;         // [tokens, k] or nullptr
  int tokens, k, row_count;
  int64_t width;
  Dtype dtype;
};
Status combine_rows_grad(Cpu, const CombineRowsGrad&);
Status combine_rows_grad(Cuda, const CombineRowsGrad&);

}  // namespace moat::kernels
