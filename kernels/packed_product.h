#pragma once

// The inner loop of products on the CPU: kRows rows of a times kColumns columns of b, the sums in
// registers. Every sum runs over its terms in order, one fused multiply-add each, so that its bits
// depend on its own row and column alone. (A library's product of a few rows has other bits than
// one of many, and packs its operands anew for every tile.)

#include <cstdint>
#include <cstring>

#include "kernels/target.h"

namespace moat::kernels {

#if defined(__AVX512F__)
inline constexpr int kLaneBytes = 64, kProductRows = 12;
#elif defined(__AVX__)
inline constexpr int kLaneBytes = 32, kProductRows = 6;
#else
inline constexpr int kLaneBytes = 16, kProductRows = 6;
#endif

template <class C>
inline constexpr int kLanes = kLaneBytes / static_cast<int>(sizeof(C));
// Two vectors side by side.
template <class C>
inline constexpr int kProductColumns = 2 * kLanes<C>;

// sums[i, j] += sum over p of a[i][p · kStep] b[p, j]: a is kProductRows rows, b [depth,
// kProductColumns] packed, sums rows are `stride` apart.
template <int kStep, class C>
inline void multiply_packed(const C* const (&a)[kProductRows], const C* b, int depth, C* sums,
                            int64_t stride) {
  typedef C Vector __attribute__((vector_size(kLaneBytes)));
  constexpr int kCount = kLanes<C>;
  const C* rows[kProductRows];
#pragma GCC unroll 16
  for (int i = 0; i < kProductRows; ++i) rows[i] = a[i];
  Vector total[kProductRows][2] = {};
  for (int64_t p = 0; p < depth; ++p, b += 2 * kCount) {
    Vector left, right;
    std::memcpy(&left, b, sizeof(Vector));
    std::memcpy(&right, b + kCount, sizeof(Vector));
#pragma GCC unroll 16
    for (int i = 0; i < kProductRows; ++i) {
      total[i][0] += rows[i][p * kStep] * left;
      total[i][1] += rows[i][p * kStep] * right;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kProductRows; ++i)
    for (int v = 0; v < 2; ++v) {
      C* to = sums + i * stride + v * kCount;
      Vector sum;
      std::memcpy(&sum, to, sizeof(Vector));
      sum += total[i][v];
      std::memcpy(to, &sum, sizeof(Vector));
    }
}

// Rows of a block of a, in groups of kProductRows, and panels of b: sums[rows, panels ·
// kProductColumns] += a b. row(i) is where row i of the block begins, its terms kStep apart; what
// lies in sums beyond `rows` up to a whole group is overwritten.
template <int kStep, class C, class Row>
void multiply_block(int rows, Row&& row, const C* b, int panels, int depth, C* sums,
                    int64_t stride) {
  constexpr int kColumns = kProductColumns<C>;
  for (int panel = 0; panel < panels; ++panel)
    for (int first = 0; first < rows; first += kProductRows) {
      const C* a[kProductRows];
      for (int i = 0; i < kProductRows; ++i) a[i] = row(first + i < rows ? first + i : first);
      multiply_packed<kStep>(a, b + int64_t{panel} * depth * kColumns, depth,
                             sums + first * stride + panel * kColumns, stride);
    }
}

}  // namespace moat::kernels
