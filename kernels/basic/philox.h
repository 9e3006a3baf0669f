#pragma once

// Random numbers as pure functions of a counter, the same bits on every target. Only + - * / and
// sqrt, each rounded once: files that include this header are compiled with contraction off
// (-ffp-contract=off, --fmad=false).

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace moat::kernels {

using PhiloxBlock = std::array<uint32_t, 4>;

// Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
constexpr PhiloxBlock philox(PhiloxBlock counter, uint64_t seed) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// 24 bits as a number in [0, 1): exact in float32 and float64 alike.
constexpr double unit_uniform(uint32_t bits) { return static_cast<double>(bits >> 8) * 0x1p-24; }

// A whole number in [0, count), uniform within count / 2^32.
constexpr int64_t uniform_below(uint32_t bits, uint64_t count) {
  return static_cast<int64_t>(bits * count >> 32);
}

// ln(x) for a positive normal x: x = 2^e m with m in [sqrt(1/2), sqrt(2)), s = (m - 1) / (m + 1),
// ln m = 2 (s + s^3/3 + s^5/5 + …), |s| < 0.172. Within 4 units in the last place of max(1, |ln
// x|).
constexpr double exact_log(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (m >= 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double sum = 1.0 / 21;
  for (int odd = 19; odd >= 1; odd -= 2) sum = sum * s2 + 1.0 / odd;
  return static_cast<double>(exponent) * 0.6931471805599453 + 2 * s * sum;
}

// exp(x) for -700 <= x <= 0: x = n ln 2 + r with |r| < 0.35, ln 2 in two parts of which n times the
// first is exact, and the Taylor polynomial of exp(r). Within 4 units in the last place.
constexpr double exact_exp(double x) {
  const auto n = static_cast<int64_t>(x * 1.4426950408889634 - 0.5);
  const double r =
      x - static_cast<double>(n) * 0x1.62e42feep-1 - static_cast<double>(n) * 0x1.a39ef35793c76p-33;
  double sum = 1;  // nested: 1 + r (1 + r/2 (1 + r/3 (…)))
  for (int k = 14; k >= 1; --k) sum = 1 + sum * r / k;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

struct SinCos {
  double sin, cos;
};

// Sine and cosine of an angle in units of 2^-32 turns: the nearest quarter turn is exact in the
// integers, the rest, at most an eighth of a turn, goes through the Taylor polynomials.
constexpr SinCos sin_cos_turns(uint32_t angle) {
  const uint32_t quarter = (angle + 0x20000000u) >> 30;
  const double t = static_cast<double>(static_cast<int32_t>(angle - (quarter << 30))) * 0x1p-32 *
                   6.283185307179586;
  const double t2 = t * t;
  double sine = 1, cosine = 1;  // nested: 1 - t2/(2·3) (1 - t2/(4·5) (…))
  for (int n = 16; n >= 2; n -= 2) sine = 1 - sine * t2 / (n * (n + 1));
  for (int n = 17; n >= 1; n -= 2) cosine = 1 - cosine * t2 / (n * (n + 1));
  sine *= t;
  switch (quarter) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

// Two independent standard normals from two words (Box and Muller 1958), |z| < 6.8. A template,
// because std::sqrt would keep a plain function from being constexpr, which devices call.
template <class Real = double>
constexpr std::array<Real, 2> normal_pair(uint32_t radius_bits, uint32_t angle_bits) {
  const Real u = (static_cast<Real>(radius_bits) + 0.5) * 0x1p-32;  // in (0, 1)
  const Real radius = std::sqrt(-2 * exact_log(u));
  const SinCos direction = sin_cos_turns(angle_bits);
  return {radius * direction.cos, radius * direction.sin};
}

// Beta(a, a) for a > 0 from two words, in [0, 1]: (1 + t / sqrt(1 + t^2)) / 2, where t sqrt(2a) is
// Student's t with 2a degrees of freedom, t = sqrt(u^(-1/a) - 1) cos(angle) (Bailey 1994, "Polar
// generation of random variates with the t-distribution"). Written in p = u^(1/a), which may be
// tiny: then cosine / |cosine| may round to -1 - 2^-52.
template <class Real = double>
constexpr Real symmetric_beta(Real a, uint32_t radius_bits, uint32_t angle_bits) {
  const Real u = (static_cast<Real>(radius_bits) + 0.5) * 0x1p-32;  // in (0, 1)
  const Real exponent = exact_log(u) / a;
  const Real p = exact_exp(exponent < -700 ? -700 : exponent);
  const Real cosine = sin_cos_turns(angle_bits).cos;
  const Real beta = 0.5 + 0.5 * cosine * std::sqrt((1 - p) / (p + (1 - p) * cosine * cosine));
  return beta < 0 ? Real(0) : beta;
}

}  // namespace moat::kernels
