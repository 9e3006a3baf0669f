#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

namespace moat::kernels {

// bfloat16 storage: the upper half of a float32, rounded to nearest even. A NaN becomes 0x7fff,
// which is what a GPU's instruction makes of it.
struct Bf16 {
  uint16_t bits = 0;

  constexpr Bf16() = default;
  constexpr explicit Bf16(float x) {
#ifdef __CUDA_ARCH__  // an instruction in the place of nine
    if (!std::is_constant_evaluated()) {
      bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
      return;
    }
#endif
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};
static_assert(sizeof(Bf16) == 2);

}  // namespace moat::kernels
