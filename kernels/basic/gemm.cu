#include "kernels/basic/copy.h"
#include "kernels/basic/gemm.h"
#include "kernels/basic/gemm_cublaslt.h"
#include "kernels/library/context.h"

namespace moat::kernels {

namespace {

bool is_valid(const Gemm& g) {
  return g.m >= 0 && g.n >= 0 && g.k >= 0 &&
         (g.y_dtype == g.dtype || (g.dtype == Dtype::bf16 && g.y_dtype == Dtype::f32));
}

bool has_terms(const Gemm& g) { return g.m > 0 && g.n > 0 && g.k > 0; }

// The bias in every row, or zeros: a product of no terms, and what cuBLASLt adds one to.
Status only_bias(Cuda on, const Gemm& g) {
  if (!g.bias)
    return fill(on, {.to = g.y, .count = int64_t{g.m} * g.n, .value = 0, .dtype = g.y_dtype});
  return copy(on, {.from = g.bias,
                   .to = g.y,
                   .extents = {1, 1, 1, 1, g.m, g.n},
                   .from_strides = {0, 0, 0, 0, 0, 1},
                   .to_strides = {0, 0, 0, 0, g.n, 1},
                   .from_dtype = g.y_dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32,
                   .to_dtype = g.y_dtype});
}

}  // namespace

size_t gemm_workspace(Cuda on, const Gemm& g) {
  return is_valid(g) && has_terms(g) ? cublaslt::workspace(on, g) : 0;
}

Status gemm(Cuda on, const Gemm& g) {
  if (!is_valid(g)) return Status::bad_args;
  if (!supports(on, g.dtype)) return Status::unsupported;
  if (g.m == 0 || g.n == 0) return Status::ok;
  if (g.k == 0) return only_bias(on, g);
  if (on.workspace_bytes < gemm_workspace(on, g)) return Status::small_workspace;
  if (!on.context) return Status::bad_args;
  if (g.bias)
    if (const Status status = only_bias(on, g); status != Status::ok) return status;
  return cublaslt::run(on, g);
}

}  // namespace moat::kernels
