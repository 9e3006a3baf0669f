#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Copies each token to the rows that routing_index gave it:
//   y[r, :] = x[row_token[r], :], zeros where row_token[r] = -1.
// A token outside [-1, tokens) is bad_args; on CUDA, where it cannot be refused, its row is zeros.
// The gradient is combine_rows without weights.
//
// slot_of, the same routing from the other side, is optional and changes no result: with it CUDA
// reads each token once instead of k times.
struct DispatchRows {
  const void* x;             // [tokens, width]
  const int32_t* row_token;  // [rows]
  void* y;                   // [rows, width]
  int tokens, rows;
  int64_t width;
  Dtype dtype;
  const int32_t* slot_of = nullptr;  // [tokens, k] or nullptr
  int k = 0;                         // read when slot_of is given
};
Status dispatch_rows(Cpu, const DispatchRows&);
Status dispatch_rows(Cuda, const DispatchRows&);

}  // namespace moat::kernels
