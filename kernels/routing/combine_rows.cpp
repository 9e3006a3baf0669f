#include "kernels/routing/combine_rows.h"

#include <algorithm>
#include <array>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;  // elements a thread handles at least
constexpr int64_t kTile = 256;     // columns whose sums are on the stack at once

template <class Args>
bool is_valid(const Args& a) {
  return a.tokens >= 0 && a.k >= 0 && a.row_count >= 0 && a.width >= 0 &&
         indices_in_range(a.slot_of, int64_t{a.tokens} * a.k, a.row_count, -1);
}

template <class Body>
void for_each_token(int tokens, int64_t work, Body&& body) {
  parallel_for(tokens, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work)),
               [&](int64_t from, int64_t to) {
                 for (int64_t t = from; t < to; ++t) body(t);
               });
}

template <class T>
void combine_token(const CombineRows& a, int64_t t) {
  using C = compute_t<T>;
  const auto* weights = static_cast<const C*>(a.weights);
  const auto* rows = static_cast<const T*>(a.rows);
  T* y = static_cast<T*>(a.y) + t * a.width;
  for (int64_t first = 0; first < a.width; first += kTile) {
    const auto columns = static_cast<size_t>(std::min(kTile, a.width - first));
    std::array<C, kTile> sums{};
    for (int64_t at = t * a.k; at < (t + 1) * a.k; ++at) {
      if (a.slot_of[at] < 0) continue;
      const T* row = rows + a.slot_of[at] * a.width + first;
      const C weight = weights ? weights[at] : C(1);
      for (size_t j = 0; j < columns; ++j) sums[j] += weight * static_cast<C>(row[j]);
    }
    for (size_t j = 0; j < columns; ++j) y[first + static_cast<int64_t>(j)] = T(sums[j]);
  }
}

template <class T>
void scatter_token(const CombineRowsGrad& a, int64_t t) {
  using C = compute_t<T>;
  const auto* weights = static_cast<const C*>(a.weights);
  const T* d_y = static_cast<const T*>(a.d_y) + t * a.width;
  for (int64_t at = t * a.k; at < (t + 1) * a.k; ++at) {
    if (a.slot_of[at] < 0) continue;
    T* d_row = static_cast<T*>(a.d_rows) + a.slot_of[at] * a.width;
    const C weight = weights ? weights[at] : C(1);
    for (int64_t j = 0; j < a.width; ++j) d_row[j] = T(weight * static_cast<C>(d_y[j]));
  }
}

template <class T>
void weigh_token(const CombineRowsGrad& a, int64_t t) {
  using C = compute_t<T>;
  const T* d_y = static_cast<const T*>(a.d_y) + t * a.width;
  for (int64_t at = t * a.k; at < (t + 1) * a.k; ++at) {
    C sum = 0;
    if (a.slot_of[at] >= 0) {
      const T* row = static_cast<const T*>(a.rows) + a.slot_of[at] * a.width;
      for (int64_t j = 0; j < a.width; ++j) sum += static_cast<C>(d_y[j]) * static_cast<C>(row[j]);
    }
    static_cast<C*>(a.d_weights)[at] = sum;
  }
}

}  // namespace

Status combine_rows(Cpu, const CombineRows& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    for_each_token(a.tokens, a.k * a.width, [&](int64_t t) { combine_token<T>(a, t); });
    return Status::ok;
  });
}

Status combine_rows_grad(Cpu, const CombineRowsGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    if (a.d_rows) {
      T* d_rows = static_cast<T*>(a.d_rows);
      parallel_for(a.row_count * a.width, kGrain,
                   [&](int64_t from, int64_t to) { std::fill(d_rows + from, d_rows + to, T(0)); });
      for_each_token(a.tokens, a.k * a.width, [&](int64_t t) { scatter_token<T>(a, t); });
    }
    if (a.d_weights)
      for_each_token(a.tokens, a.k * a.width, [&](int64_t t) { weigh_token<T>(a, t); });
    return Status::ok;
  });
}

}  // namespace moat::kernels
