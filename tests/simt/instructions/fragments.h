#pragma once

// Which lane holds which element of a matrix instruction's operands, and the products themselves:
// plain functions of the registers of all lanes (PTX ISA, "Matrix fragments for mma", "ldmatrix",
// "wgmma register fragments").

#include <array>
#include <cstdint>

#include "tests/simt/instructions/numbers.h"

namespace simt {

struct Place {
  int row, column;
};

// Elements of registers count through each register's halves, the lower first. Of b, row is k.
constexpr Place place_of_a16(int lane, int element) {
  const int g = lane / 4, t = lane % 4;
  return {g + element / 2 % 2 * 8, 2 * t + element % 2 + element / 4 * 8};
}
constexpr Place place_of_b16(int lane, int element) {
  return {2 * (lane % 4) + element % 2 + element / 2 * 8, lane / 4};
}
constexpr Place place_of_a32(int lane, int element) {
  return {lane / 4 + element % 2 * 8, lane % 4 + element / 2 * 4};
}
constexpr Place place_of_b32(int lane, int element) { return {lane % 4 + element * 4, lane / 4}; }
constexpr Place place_of_sum(int lane, int element) {
  return {lane / 4 + element / 2 * 8, 2 * (lane % 4) + element % 2};
}
// Of a warpgroup's [64, N] sums.
constexpr Place place_of_group_sum(int thread, int element) {
  const Place part = place_of_sum(thread % 32, element % 4);
  return {thread / 32 * 16 + part.row, element / 4 * 8 + part.column};
}
// Of an 8 x 8 matrix that ldmatrix loads and stmatrix stores.
constexpr Place place_in_matrix(int lane, int half, bool transpose) {
  const int along = 2 * (lane % 4) + half;
  return transpose ? Place{along, lane / 4} : Place{lane / 4, along};
}

struct MmaRegisters {
  std::array<std::array<uint32_t, 4>, 32> a;
  std::array<std::array<uint32_t, 2>, 32> b;
  std::array<std::array<float, 4>, 32> d;
};

template <int K>
void multiply_add(const float (&a)[16][K], const float (&b)[K][8], MmaRegisters& registers) {
  for (int lane = 0; lane < 32; ++lane)
    for (int element = 0; element < 4; ++element) {
      const Place p = place_of_sum(lane, element);
      float sum = registers.d[lane][element];
      for (int k = 0; k < K; ++k) sum += a[p.row][k] * b[k][p.column];
      registers.d[lane][element] = sum;
    }
}

// Of bf16.
inline void mma_m16n8k16(MmaRegisters& registers) {
  float a[16][16], b[16][8];
  const auto half = [](uint32_t word, int element) {
    return static_cast<uint16_t>(word >> element % 2 * 16);
  };
  for (int lane = 0; lane < 32; ++lane) {
    for (int e = 0; e < 8; ++e) {
      const Place p = place_of_a16(lane, e);
      a[p.row][p.column] = bf16_value(half(registers.a[lane][e / 2], e));
    }
    for (int e = 0; e < 4; ++e) {
      const Place p = place_of_b16(lane, e);
      b[p.row][p.column] = bf16_value(half(registers.b[lane][e / 2], e));
    }
  }
  multiply_add(a, b, registers);
}

inline void mma_m16n8k8(MmaRegisters& registers) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    for (int e = 0; e < 4; ++e) {
      const Place p = place_of_a32(lane, e);
      a[p.row][p.column] = tf32_value(registers.a[lane][e]);
    }
    for (int e = 0; e < 2; ++e) {
      const Place p = place_of_b32(lane, e);
      b[p.row][p.column] = tf32_value(registers.b[lane][e]);
    }
  }
  multiply_add(a, b, registers);
}

}  // namespace simt
