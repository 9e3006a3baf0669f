#pragma once

#include <cmath>
#include <cstdint>

namespace moat::kernels {

// What the softmax of one row of logits needs, in the format C:
//   softmax(x)_i = exp(x_i - max) / (1 + rest),  log-sum-exp(x) = max + log1p(rest).
// `rest` leaves the first maximum out, so that log1p(rest) keeps its digits when one logit towers.
template <class C>
struct RowSoftmax {
  C max;
  int argmax;
  double rest;  // sum of exp(x_i - max) over i != argmax; NaN for a NaN or an infinite maximum

  C log_probability(C x) const { return (x - max) - static_cast<C>(std::log1p(rest)); }
  C probability(C x) const { return static_cast<C>(std::exp(x - max) / (1 + rest)); }
  // 1 - probability(x_i) without the cancellation: the share of all other entries.
  double others(C x, int i) const {
    return (i == argmax ? rest : 1 + rest - std::exp(double{x - max})) / (1 + rest);
  }
};

template <class C, class T>
RowSoftmax<C> row_softmax(const T* x, int n) {
  C max = static_cast<C>(x[0]);
  int argmax = 0;
  for (int i = 1; i < n; ++i)
    if (static_cast<C>(x[i]) > max) {
      max = static_cast<C>(x[i]);
      argmax = i;
    }
  double rest = max - max;
  for (int i = 0; i < n; ++i)
    if (i != argmax) rest += std::exp(static_cast<C>(x[i]) - max);
  return {max, argmax, rest};
}

// Rows a thread takes at least, for rows of n entries.
inline int64_t row_grain(int n) { return 1 + 4096 / (n + 1); }

}  // namespace moat::kernels
