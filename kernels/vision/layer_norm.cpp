#include "kernels/vision/layer_norm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;    // elements a thread takes at least
constexpr int kMinBlockRows = 64;    // rows whose column sums are made in one go
constexpr int kMostBlocks = 1024;    // of them
constexpr int64_t kColumnTile = 64;  // columns that a thread takes at least

int64_t row_grain(int width) { return std::max<int64_t>(1, kGrain / width); }

// Sum of term(i) over [0, n): 16 interleaved sums, added pairwise.
template <class Term>
double interleaved_sum(int n, Term&& term) {
  constexpr int kLanes = 16;
  std::array<double, kLanes> lanes{};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[static_cast<size_t>(lane)] += term(i + lane);
  for (int lane = 0; i < n; ++i, ++lane) lanes[static_cast<size_t>(lane)] += term(i);
  for (size_t half = kLanes / 2; half > 0; half /= 2)
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

template <class T>
void normalise_row(const LayerNorm& a, int64_t row) {
  using C = compute_t<T>;
  const T* x = static_cast<const T*>(a.x) + row * a.width;
  T* y = static_cast<T*>(a.y) + row * a.width;
  const auto *gamma = static_cast<const C*>(a.gamma), *beta = static_cast<const C*>(a.beta);
  const double mean = interleaved_sum(a.width, [&](int i) { return C(x[i]); }) / a.width;
  const double var = interleaved_sum(a.width,
                                     [&](int i) {
                                       const double d = C(x[i]) - mean;
                                       return d * d;
                                     }) /
                     a.width;
  const C center = C(mean), scale = C(1 / std::sqrt(var + a.epsilon));
  static_cast<C*>(a.mean)[row] = center;
  static_cast<C*>(a.inv_std)[row] = scale;
  if (gamma)
    for (int i = 0; i < a.width; ++i) y[i] = T((C(x[i]) - center) * scale * gamma[i] + beta[i]);
  else
    for (int i = 0; i < a.width; ++i) y[i] = T((C(x[i]) - center) * scale);
}

// kHasGamma and kAdds as compile-time facts keep the loops without branches.
template <class T, bool kHasGamma, bool kAdds>
void input_gradient_row(const LayerNormGrad& a, int64_t row) {
  using C = compute_t<T>;
  const T *x = static_cast<const T*>(a.x) + row * a.width,
          *d_y = static_cast<const T*>(a.d_y) + row * a.width;
  const T* added = kAdds ? static_cast<const T*>(a.added) + row * a.width : nullptr;
  T* d_x = static_cast<T*>(a.d_x) + row * a.width;
  const auto* gamma = static_cast<const C*>(a.gamma);
  const C center = static_cast<const C*>(a.mean)[row],
          scale = static_cast<const C*>(a.inv_std)[row];
  const auto g = [&](int i) { return kHasGamma ? gamma[i] * C(d_y[i]) : C(d_y[i]); };
  const C shift = C(interleaved_sum(a.width, g) / a.width);
  const double product =
      interleaved_sum(a.width, [&](int i) { return double{g(i)} * (C(x[i]) - center); });
  const C slope = C(product / a.width * scale * scale);
  for (int i = 0; i < a.width; ++i)
    d_x[i] = T(scale * (g(i) - shift - (C(x[i]) - center) * slope) + (kAdds ? C(added[i]) : C(0)));
}

template <class T>
void input_gradient(const LayerNormGrad& a, int64_t from, int64_t to) {
  const auto row =
      a.gamma
          ? (a.added ? input_gradient_row<T, true, true> : input_gradient_row<T, true, false>)
          : (a.added ? input_gradient_row<T, false, true> : input_gradient_row<T, false, false>);
  for (; from < to; ++from) row(a, from);
}

// Rows that are summed in one go, and how many such blocks there are.
int block_rows(int rows) { return std::max(kMinBlockRows, (rows - 1) / kMostBlocks + 1); }
int64_t num_blocks(int rows) { return (int64_t{rows} + block_rows(rows) - 1) / block_rows(rows); }

// d_beta and d_gamma of a block of rows, sums = [2, width]. Only those that are asked for.
template <class T>
void block_sums(const LayerNormGrad& a, int64_t from, int64_t to, double* sums) {
  using C = compute_t<T>;
  double *d_beta = sums, *d_gamma = sums + a.width;
  std::fill_n(sums, 2 * int64_t{a.width}, 0.0);
  for (int64_t row = from; row < to; ++row) {
    const T* d_y = static_cast<const T*>(a.d_y) + row * a.width;
    if (a.d_beta)
      for (int i = 0; i < a.width; ++i) d_beta[i] += C(d_y[i]);
    if (!a.d_gamma) continue;
    const T* x = static_cast<const T*>(a.x) + row * a.width;
    const C center = static_cast<const C*>(a.mean)[row],
            scale = static_cast<const C*>(a.inv_std)[row];
    for (int i = 0; i < a.width; ++i)
      d_gamma[i] += double{C(d_y[i])} * ((C(x[i]) - center) * scale);
  }
}

// out = the sums of all blocks, in order, which end in those of the first.
template <class C>
void add_blocks(const LayerNormGrad& a, double* first, void* out) {
  parallel_for(a.width, kColumnTile, [&](int64_t from, int64_t to) {
    for (int64_t block = 1; block < num_blocks(a.rows); ++block)
      for (int64_t i = from; i < to; ++i) first[i] += first[block * 2 * a.width + i];
    for (int64_t i = from; i < to; ++i) static_cast<C*>(out)[i] = static_cast<C>(first[i]);
  });
}

template <class C>
void clear(void* out, int width) {
  if (out) std::fill_n(static_cast<C*>(out), width, C(0));
}

bool is_valid(const void* gamma, const void* beta, int rows, int width) {
  return rows >= 0 && width >= 1 && (gamma == nullptr) == (beta == nullptr);
}

}  // namespace

Status layer_norm(Cpu, const LayerNorm& a) {
  if (!is_valid(a.gamma, a.beta, a.rows, a.width)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.rows, row_grain(a.width), [&](int64_t from, int64_t to) {
      for (int64_t row = from; row < to; ++row) normalise_row<T>(a, row);
    });
    return Status::ok;
  });
}

size_t layer_norm_grad_workspace(Cpu, const LayerNormGrad& a) {
  if (a.rows < 1 || a.width < 1 || (!a.d_gamma && !a.d_beta)) return 0;
  return static_cast<size_t>(num_blocks(a.rows) * 2 * a.width) * sizeof(double);
}

Status layer_norm_grad(Cpu on, const LayerNormGrad& a) {
  if (!is_valid(nullptr, nullptr, a.rows, a.width)) return Status::bad_args;
  if (on.workspace_bytes < layer_norm_grad_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    if (a.rows == 0) {
      clear<C>(a.d_gamma, a.width);
      clear<C>(a.d_beta, a.width);
      return Status::ok;
    }
    auto* sums = static_cast<double*>(on.workspace);
    const int rows = block_rows(a.rows);
    // A block's rows are still in the cache when they are read for the other results.
    parallel_for(num_blocks(a.rows), 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t from = block * rows, to = std::min<int64_t>(from + rows, a.rows);
        if (a.d_gamma || a.d_beta) block_sums<T>(a, from, to, sums + block * 2 * a.width);
        if (a.d_x) input_gradient<T>(a, from, to);
      }
    });
    if (a.d_beta) add_blocks<C>(a, sums, a.d_beta);
    if (a.d_gamma) add_blocks<C>(a, sums + a.width, a.d_gamma);
    return Status::ok;
  });
}

}  // namespace moat::kernels
