#pragma once

#include <bit>
#include <cstdint>

namespace moat::kernels {

// bfloat16 storage: the upper half of a float32, rounded to nearest even. NaN stays NaN.
struct Bf16 {
  uint16_t bits = 0;

  constexpr Bf16() = default;
  constexpr explicit Bf16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(Bf16) == 2);

}  // namespace moat::kernels
