#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace moat::kernels {

// 1 / (1 + exp(-x)), bit for bit the same on every target: exp(-|x|) = 2^n · exp(r) by Taylor's
// series, every product inside an explicit fma or exact (times 2^n), so that nothing is left for a
// compiler to contract. For scores that select experts. Within 2 ulp; |x| counts as at most 87
// (float64: 708).
template <class T>
constexpr T portable_sigmoid(T x) {
  constexpr bool single = std::is_same_v<T, float>;
  using Bits = std::conditional_t<single, uint32_t, uint64_t>;
  constexpr int degree = single ? 7 : 13, bias = single ? 127 : 1023, mantissa = single ? 23 : 52;
  constexpr T limit = single ? T(87) : T(708);
  constexpr T log2e = T(1.4426950408889634);
  constexpr T ln2 = single ? T(0x1.62e43p-1) : T(0x1.62e42fefa39efp-1);
  constexpr T ln2_rest = single ? T(-0x1.05c61p-29) : T(0x1.abc9e3b39803fp-56);
  const T distance = std::fabs(x);
  const T y = distance < limit ? -distance : -limit;
  const T n = std::rint(y * log2e);
  const T r = std::fma(-n, ln2_rest, std::fma(-n, ln2, y));
  T series = 1;
  for (int i = degree; i > 0; --i) series = std::fma(series, r * (T(1) / static_cast<T>(i)), T(1));
  const T t = series * std::bit_cast<T>(static_cast<Bits>(bias + static_cast<int>(n)) << mantissa);
  return (x < 0 ? t : T(1)) / (1 + t);
}

}  // namespace moat::kernels
