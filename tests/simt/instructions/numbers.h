#pragma once

// Number formats of the matrix instructions, bit by bit, as plain functions.

#include <bit>
#include <cstdint>

namespace simt {

constexpr float bf16_value(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// The hardware reads the upper 19 bits.
constexpr float tf32_value(uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000u); }

// Nearest, ties to even; NaN becomes the canonical one.
constexpr uint16_t to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Nearest, ties away from zero, to 10 bits of mantissa.
constexpr uint32_t to_tf32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffe000u;
  if ((bits & 0x7fffffffu) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

}  // namespace simt
