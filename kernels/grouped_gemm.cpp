#include "kernels/grouped_gemm.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/dispatch_rows.h"
#include "kernels/index_range.h"
#include "kernels/parallel.h"
#include "kernels/pieces.h"
#include "kernels/segments.h"

namespace moat::kernels {

namespace {

template <class Grouped>
bool is_valid(const Grouped& a) {
  if (a.rows < 0 || a.x_rows < 0 || a.n < 0 || a.k < 0 || !are_segments(a.offsets, a.experts) ||
      a.offsets[a.experts] > a.rows)
    return false;
  const int used = a.offsets[a.experts];
  return a.row_token ? indices_in_range(a.row_token, used, a.x_rows) : used <= a.x_rows;
}

// Weights' gradients and biases of bfloat16 products are float32.
Dtype master(Dtype dtype) { return dtype == Dtype::bf16 ? Dtype::f32 : dtype; }

template <class Grouped>
size_t gathered_bytes(const Grouped& a) {
  return a.row_token
             ? in_lines(static_cast<size_t>(a.rows) * static_cast<size_t>(a.k) * size_of(a.dtype))
             : 0;
}

// x by rows: as it is, or gathered into the front of the workspace.
template <class Grouped>
const void* gathered(Cpu on, const Grouped& a) {
  if (!a.row_token) return a.x;
  dispatch_rows(on, {.x = a.x,
                     .row_token = a.row_token,
                     .y = on.workspace,
                     .tokens = a.x_rows,
                     .rows = a.offsets[a.experts],
                     .width = a.k,
                     .dtype = a.dtype});
  return on.workspace;
}

// What is left of the workspace behind `used` bytes.
Cpu behind(Cpu on, size_t used) {
  return {on.context, static_cast<char*>(on.workspace) + used, on.workspace_bytes - used};
}

// The product of expert e over rows of x that lie side by side.
auto products(const GroupedGemm& a, const void* x) {
  return [&a, x](int e) {
    const int64_t first = a.offsets[e];
    return Gemm{.a = at(x, first * a.k, a.dtype),
                .b = at(a.w, int64_t{e} * a.n * a.k, a.dtype),
                .bias = a.bias ? at(a.bias, int64_t{e} * a.n, master(a.dtype)) : nullptr,
                .y = at(a.y, first * a.n, a.dtype),
                .m = a.offsets[e + 1] - a.offsets[e],
                .n = a.n,
                .k = a.k,
                .transpose_a = Transpose::no,
                .transpose_b = a.transpose_w,
                .dtype = a.dtype,
                .y_dtype = a.dtype};
  };
}

auto products(const GroupedGemmWeightGrad& a, const void* x) {
  return [&a, x](int e) {
    const int64_t first = a.offsets[e];
    return Gemm{.a = at(a.d_y, first * a.n, a.dtype),
                .b = at(x, first * a.k, a.dtype),
                .bias = nullptr,
                .y = at(a.d_w, int64_t{e} * a.n * a.k, master(a.dtype)),
                .m = a.n,
                .n = a.k,
                .k = a.offsets[e + 1] - a.offsets[e],
                .transpose_a = Transpose::yes,
                .transpose_b = Transpose::no,
                .dtype = a.dtype,
                .y_dtype = master(a.dtype)};
  };
}

template <class Grouped>
size_t workspace(Cpu on, const Grouped& a) {
  if (!is_valid(a)) return 0;
  const auto product = products(a, nullptr);
  return gathered_bytes(a) +
         largest_of_experts(a.experts, [&](int e) { return gemm_workspace(on, product(e)); });
}

template <class Grouped>
Status run(Cpu on, const Grouped& a) {
  const auto product = products(a, gathered(on, a));
  const Cpu rest = behind(on, gathered_bytes(a));
  return for_each_expert(a.experts, [&](int e) { return gemm(rest, product(e)); });
}

// d_bias[e, j] = sum of d_y[r, j], rows in order.
template <class T>
void sum_columns(const GroupedGemmWeightGrad& a) {
  using C = compute_t<T>;
  constexpr int kTile = 64;  // columns whose sums are on the stack at once
  const int tiles = (a.n + kTile - 1) / kTile;
  parallel_for(int64_t{a.experts} * tiles, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t e = task / tiles, first = task % tiles * kTile;
      const auto columns = static_cast<size_t>(std::min<int64_t>(kTile, a.n - first));
      std::array<C, kTile> sums{};
      for (int64_t r = a.offsets[e]; r < a.offsets[e + 1]; ++r) {
        const T* row = static_cast<const T*>(a.d_y) + r * a.n + first;
        for (size_t j = 0; j < columns; ++j) sums[j] += static_cast<C>(row[j]);
      }
      std::copy_n(sums.begin(), columns, static_cast<C*>(a.d_bias) + e * a.n + first);
    }
  });
}

}  // namespace

size_t grouped_gemm_workspace(Cpu on, const GroupedGemm& a) { return workspace(on, a); }

Status grouped_gemm(Cpu on, const GroupedGemm& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < grouped_gemm_workspace(on, a)) return Status::small_workspace;
  const int used = a.offsets[a.experts];
  std::memset(at(a.y, int64_t{used} * a.n, a.dtype), 0,
              static_cast<size_t>(a.rows - used) * static_cast<size_t>(a.n) * size_of(a.dtype));
  return run(on, a);
}

size_t grouped_gemm_weight_grad_workspace(Cpu on, const GroupedGemmWeightGrad& a) {
  return workspace(on, a);
}

Status grouped_gemm_weight_grad(Cpu on, const GroupedGemmWeightGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < grouped_gemm_weight_grad_workspace(on, a))
    return Status::small_workspace;
  if (a.d_bias) {
    const Status status = with_float(a.dtype, [&]<class T>() {
      sum_columns<T>(a);
      return Status::ok;
    });
    if (status != Status::ok) return status;
  }
  return run(on, a);
}

}  // namespace moat::kernels
