#include "kernels/basic/copy.h"
#include "kernels/basic/gemm.h"
#include "kernels/basic/gemm_cublaslt.h"
#include "kernels/library/context.h"
#include "kernels/workspace_pieces.h"

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

// cuBLASLt rounds a bfloat16 product before it adds to what y holds, and then again. So that a sum
// with a bias is rounded once, as on the CPU, it is a float32 one in the workspace, copied to y: 18
// bytes for each value of y, few beside the product's where k is long.
bool is_summed_apart(const Gemm& g) { return g.bias && g.y_dtype == Dtype::bf16; }

Gemm in_float32(const Gemm& g, void* y) {
  Gemm wide = g;
  wide.y = y;
  wide.y_dtype = Dtype::f32;
  return wide;
}

}  // namespace

size_t gemm_workspace(Cuda on, const Gemm& g) {
  if (!is_valid(g) || !has_terms(g)) return 0;
  const size_t sums = is_summed_apart(g) ? size_t(g.m) * size_t(g.n) * sizeof(float) : 0;
  return in_lines(cublaslt::workspace(on, g)) + sums;
}

Status gemm(Cuda on, const Gemm& g) {
  if (!is_valid(g)) return Status::bad_args;
  if (!supports(on, g.dtype)) return Status::unsupported;
  if (g.m == 0 || g.n == 0) return Status::ok;
  if (g.k == 0) return only_bias(on, g);
  if (on.workspace_bytes < gemm_workspace(on, g)) return Status::small_workspace;
  if (!on.context) return Status::bad_args;
  if (is_summed_apart(g)) {
    const Gemm wide =
        in_float32(g, static_cast<char*>(on.workspace) + in_lines(cublaslt::workspace(on, g)));
    if (const Status status = gemm(on, wide); status != Status::ok) return status;
    const int64_t count = int64_t{g.m} * g.n;
    return copy(on, {.from = wide.y,
                     .to = g.y,
                     .extents = {1, 1, 1, 1, 1, count},
                     .from_strides = {0, 0, 0, 0, 0, 1},
                     .to_strides = {0, 0, 0, 0, 0, 1},
                     .from_dtype = Dtype::f32,
                     .to_dtype = g.y_dtype});
  }
  if (g.bias)
    if (const Status status = only_bias(on, g); status != Status::ok) return status;
  return cublaslt::run(on, g);
}

}  // namespace moat::kernels
