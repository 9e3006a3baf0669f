#include "kernels/basic/copy.h"
#include "kernels/basic/elementwise.h"
#include "kernels/basic/gemm.h"
#include "kernels/basic/gemm_cublaslt.h"
#include "kernels/basic/sum_dtype.h"
#include "kernels/library/context.h"
#include "kernels/workspace_pieces.h"

namespace moat::kernels {

namespace {

bool is_valid(const Gemm& g) {
  return g.m >= 0 && g.n >= 0 && g.k >= 0 && is_sum_dtype(g.dtype, g.y_dtype);
}

bool has_terms(const Gemm& g) { return g.m > 0 && g.n > 0 && g.k > 0; }

// The bias in each of `rows` rows, in the format of y.
Status bias_rows(Cuda on, const Gemm& g, void* to, int64_t rows) {
  return copy(on, {.from = g.bias,
                   .to = to,
                   .extents = {1, 1, 1, 1, rows, g.n},
                   .from_strides = {0, 0, 0, 0, 0, 1},
                   .to_strides = {0, 0, 0, 0, g.n, 1},
                   .from_dtype = g.y_dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32,
                   .to_dtype = g.y_dtype});
}

// y = bias + added: a product of no terms, and what a float64 one is added to.
Status no_terms(Cuda on, const Gemm& g) {
  const std::array<int64_t, 6> all = {1, 1, 1, 1, 1, int64_t{g.m} * g.n},
                               dense = {0, 0, 0, 0, 0, 1};
  if (!g.bias && !g.added)
    return fill(on, {.to = g.y, .count = all[5], .value = 0, .dtype = g.y_dtype});
  if (!g.bias)
    return copy(on, {.from = g.added,
                     .to = g.y,
                     .extents = all,
                     .from_strides = dense,
                     .to_strides = dense,
                     .from_dtype = g.y_dtype,
                     .to_dtype = g.y_dtype});
  const Status status = bias_rows(on, g, g.y, g.m);
  if (status != Status::ok || !g.added) return status;
  return binary(on, {.a = g.y,
                     .b = g.added,
                     .y = g.y,
                     .extents = all,
                     .a_strides = dense,
                     .b_strides = dense,
                     .op = BinaryOp::add,
                     .dtype = g.y_dtype});
}

// cuBLASLt takes a bias in the format of y, in the workspace behind its own: a value of y is
// rounded once, and its bias before it.
bool converts_bias(const Gemm& g) { return g.bias && g.y_dtype == Dtype::bf16; }

}  // namespace

size_t gemm_workspace(Cuda on, const Gemm& g) {
  if (!is_valid(g) || !has_terms(g)) return 0;
  const size_t bias = converts_bias(g) ? size_t(g.n) * size_of(g.y_dtype) : 0;
  return in_lines(cublaslt::workspace(on, g)) + bias;
}

Status gemm(Cuda on, const Gemm& g) {
  if (!is_valid(g)) return Status::bad_args;
  if (!supports(on, g.dtype)) return Status::unsupported;
  if (g.m == 0 || g.n == 0) return Status::ok;
  if (g.k == 0) return no_terms(on, g);
  if (on.workspace_bytes < gemm_workspace(on, g)) return Status::small_workspace;
  if (!on.context) return Status::bad_args;
  Gemm product = g;
  Status status = Status::ok;
  if (converts_bias(g)) {
    void* bias = static_cast<char*>(on.workspace) + in_lines(cublaslt::workspace(on, g));
    status = bias_rows(on, g, bias, 1);
    product.bias = bias;
  } else if (g.bias && g.y_dtype == Dtype::f64) {
    status = no_terms(on, g);
    product.bias = nullptr;
    product.added = g.y;
  }
  return status == Status::ok ? cublaslt::run(on, product) : status;
}

}  // namespace moat::kernels
