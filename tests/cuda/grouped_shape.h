#pragma once

// Ragged groups of rows and random operands for the tests of grouped products on CUDA.

#include <algorithm>

#include "kernels/experts/grouped_gemm.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

struct GroupedShape {
  std::vector<int32_t> counts;  // rows of each expert
  int left = 0;                 // rows that no expert has
  int n = 1, k = 1;
  kernels::ExpertActivation activation = kernels::ExpertActivation::none;
  kernels::Transpose transpose_w = kernels::Transpose::yes;
  bool gathered = false, with_bias = true, with_pre = false;
  kernels::Precision precision = kernels::Precision::float32;

  int experts() const { return static_cast<int>(counts.size()); }
  int width() const { return kernels::activated_width(activation, n); }
  std::vector<int32_t> offsets() const {
    std::vector<int32_t> out{0};
    for (int count : counts) out.push_back(out.back() + count);
    return out;
  }
  int used() const { return offsets().back(); }
  int rows() const { return used() + left; }
  int x_rows() const { return gathered ? used() / 2 + 3 : used(); }  // exactly what may be read
  size_t w_count() const { return counts.size() * size_t(n) * size_t(k); }
  // Tokens of rows behind the experts' point nowhere.
  std::vector<int32_t> tokens() const {
    std::vector<int32_t> out = integers<int32_t>(size_t(rows()), 7, 0, std::max(1, x_rows()));
    std::fill(out.begin() + used(), out.end(), 0x40000000);
    return out;
  }
};

template <class T>
struct Operands {
  std::vector<T> x, w;
  std::vector<kernels::compute_t<T>> bias;
};

// values(count, seed) -> doubles.
template <class T, class Values>
Operands<T> operands(const GroupedShape& s, Values&& values) {
  return {rounded<T>(values(size_t(s.x_rows()) * size_t(s.k), 1u)),
          rounded<T>(values(s.w_count(), 2u)),
          rounded<kernels::compute_t<T>>(values(s.counts.size() * size_t(s.n), 3u))};
}

inline std::vector<double> small_integers(size_t count, unsigned seed) {
  return integers<double>(count, seed, -2, 3);
}

// Ragged groups with empty experts first, in the middle and last.
inline const std::vector<int32_t> kRagged{0, 5, 1, 0, 37, 0};

}  // namespace moat::tests
