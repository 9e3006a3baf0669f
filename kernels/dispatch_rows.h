#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Copies each token to the rows that routing_index gave it:
//   y[r, :] = x[row_token[r], :], zeros where row_token[r] = -1.
// A token outside [-1, tokens) is bad_args. The gradient is combine_rows without weights.
struct DispatchRows {
  const void* x;             // [tokens, width]
  const int32_t* row_token;  // [rows]
  void* y;                   // [rows, width]
  int tokens, rows;
  int64_t width;
  Dtype dtype;
};
Status dispatch_rows(Cpu, const DispatchRows&);
Status dispatch_rows(Cuda, const DispatchRows&);

}  // namespace moat::kernels
