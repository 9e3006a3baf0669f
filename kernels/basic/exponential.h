#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace moat::kernels {

// exp(x + rest) for x <= 0 and a rest that rounding left of x; 0 below exp(-87). float32 without
// branches or calls, so that loops over it become vectors, within 2.5 units of roundoff.
template <class C>
constexpr C exp_not_positive(C x, C rest = C(0)) {
  if constexpr (!std::is_same_v<C, float>) {
    return std::exp(x + rest);
  } else {
    const bool is_zero = x < -87.0f;
    x = is_zero ? 0.0f : x;
    rest = is_zero ? 0.0f : rest;
    // exp(x) = 2^n exp(r): adding 1.5 · 2^23 rounds to an integer, in the low bits.
    constexpr float kToInteger = 12582912.0f;
    const float shifted = std::fma(x, 1.44269504f, kToInteger), n = shifted - kToInteger;
    const float r = std::fma(n, -0x1.62e43p-1f, x) + n * 0x1.05c61p-29f + rest;
    float e = 1.0f / 5040;
    e = std::fma(e, r, 1.0f / 720);
    e = std::fma(e, r, 1.0f / 120);
    e = std::fma(e, r, 1.0f / 24);
    e = std::fma(e, r, 1.0f / 6);
    e = std::fma(e, r, 0.5f);
    e = std::fma(e, r, 1.0f);
    e = std::fma(e, r, 1.0f);
    e *= std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
    return is_zero ? 0.0f : e;
  }
}

}  // namespace moat::kernels
