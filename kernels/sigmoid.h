#pragma once

#include <cmath>
#include <type_traits>

namespace moat::kernels {

// 1 / (1 + exp(-x)), bit for bit the same on every target: exp(-|x|) = 2^n · exp(r) by Taylor's
// series, every product inside an explicit fma, so that nothing is left for a compiler to contract.
// For scores that select experts. Within 2 ulp; |x| counts as at most 87 (float64: 708).
template <class T>
T portable_sigmoid(T x) {
  constexpr bool single = std::is_same_v<T, float>;
  constexpr int degree = single ? 7 : 13;
  constexpr T limit = single ? T(87) : T(708);
  constexpr T log2e = T(1.4426950408889634);
  constexpr T ln2 = single ? T(0x1.62e43p-1) : T(0x1.62e42fefa39efp-1);
  constexpr T ln2_rest = single ? T(-0x1.05c61p-29) : T(0x1.abc9e3b39803fp-56);
  const T y = -std::fmin(std::fabs(x), limit);
  const T n = std::rint(y * log2e);
  const T r = std::fma(-n, ln2_rest, std::fma(-n, ln2, y));
  T series = 1;
  for (int i = degree; i > 0; --i) series = std::fma(series, r * (T(1) / static_cast<T>(i)), T(1));
  const T t = std::ldexp(series, static_cast<int>(n));
  return (x < 0 ? t : T(1)) / (1 + t);
}

}  // namespace moat::kernels
