#pragma once

// What every step inside ball ∩ [0, 1] computes a pixel with, the same on all targets.

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace moat::kernels {

// A NaN counts as 0, an infinity as the largest float32.
template <class T>
constexpr double usable(T g) {
  constexpr T kLargest = static_cast<T>(std::numeric_limits<float>::max());
  if (g != g) return 0;
  return g > kLargest ? kLargest : g < -kLargest ? -kLargest : g;
}

template <class T>
constexpr double sign(T g) {
  return (g > 0) - (g < 0);
}

// The neighbour of a finite `from` on the side of `to`, which differs from it.
template <class T>
constexpr T next_towards(T from, T to) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  if (from == 0)
    return to > 0 ? std::numeric_limits<T>::denorm_min() : -std::numeric_limits<T>::denorm_min();
  const Bits bits = std::bit_cast<Bits>(from);
  return std::bit_cast<T>((from < to) == (from > 0) ? bits + 1 : bits - 1);
}

// center + offset in T, on [0, 1], never further from the center than |offset|.
template <class T>
constexpr T around(T center, double offset) {
  T y = static_cast<T>(center + offset);
  const double moved = double{y} - center;
  if ((moved < 0 ? -moved : moved) > (offset < 0 ? -offset : offset)) y = next_towards(y, center);
  return y < 0 ? T(0) : y > 1 ? T(1) : y;
}

// The largest T that is not above eps.
template <class T>
constexpr T rounded_down(double eps) {
  const T nearest = static_cast<T>(eps);
  return nearest > eps ? next_towards(nearest, T(0)) : nearest;
}

}  // namespace moat::kernels
