#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// y[i, :] = x[index[i], :] for rows of any number format. An index outside [0, sources) is
// bad_args; y is then not written. On CUDA, where it cannot be refused, its row is zeros.
struct GatherRows {
  const void* x;         // [sources, row_bytes]
  const int32_t* index;  // [rows]
  void* y;               // [rows, row_bytes]
  int rows, sources;
  int64_t row_bytes;
};
Status gather_rows(Cpu, const GatherRows&);
Status gather_rows(Cuda, const GatherRows&);

// d_x[s, :] = sum over i with index[i] = s of d_y[i, :], in ascending order of i; zero for a source
// that nobody took. An index outside [0, sources) is bad_args; on CUDA nobody gets its row.
struct GatherRowsGrad {
  const void* d_y;       // [rows, width]
  const int32_t* index;  // [rows]
  void* d_x;             // [sources, width]
  int rows, sources;
  int64_t width;
  Dtype dtype;
};
size_t gather_rows_grad_workspace(Cpu, const GatherRowsGrad&);
size_t gather_rows_grad_workspace(Cuda, const GatherRowsGrad&);
Status gather_rows_grad(Cpu, const GatherRowsGrad&);
Status gather_rows_grad(Cuda, const GatherRowsGrad&);

}  // namespace moat::kernels
