#pragma once

// Bits, conversions and loads with cache hints.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// A hint changes nothing that can be seen; the load or store itself is observed like any other.
template <class T>
[[gnu::always_inline]] inline T __ldg(const T* address) {
  return *address;
}
template <class T>
[[gnu::always_inline]] inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
[[gnu::always_inline]] inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
[[gnu::always_inline]] inline T __ldca(const T* address) {
  return *address;
}
template <class T>
[[gnu::always_inline]] inline void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
[[gnu::always_inline]] inline void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
[[gnu::always_inline]] inline void __stwt(T* address, std::type_identity_t<T> value) {
  *address = value;
}

constexpr int __popc(unsigned x) { return std::popcount(x); }
constexpr int __popcll(unsigned long long x) { return std::popcount(x); }
constexpr int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
constexpr int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
constexpr int __ffs(int x) { return __builtin_ffs(x); }
constexpr int __ffsll(long long x) { return __builtin_ffsll(x); }
constexpr unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
constexpr unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 |
         __brev(static_cast<unsigned>(x >> 32));
}
constexpr unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = selector >> 4 * i & 0xf;
    unsigned byte = static_cast<unsigned>(bytes >> 8 * (choice & 7) & 0xff);
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  return result;
}
constexpr unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) << (shift & 31) >> 32);
}
constexpr unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31));
}
constexpr unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(uint64_t{x} * y >> 32);
}
constexpr int __mulhi(int x, int y) { return static_cast<int>(int64_t{x} * y >> 32); }
constexpr unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide{x} * y >> 64);
}

constexpr int __float_as_int(float x) { return std::bit_cast<int>(x); }
constexpr unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
constexpr float __int_as_float(int x) { return std::bit_cast<float>(x); }
constexpr float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
constexpr long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
constexpr double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
constexpr int __double2hiint(double x) {
  return static_cast<int>(std::bit_cast<uint64_t>(x) >> 32);
}
constexpr int __double2loint(double x) { return static_cast<int>(std::bit_cast<uint64_t>(x)); }
constexpr double __hiloint2double(int high, int low) {
  return std::bit_cast<double>(uint64_t{static_cast<uint32_t>(high)} << 32 |
                               static_cast<uint32_t>(low));
}

namespace simt {

// Conversions to integers saturate and send NaN to zero.
template <class Integer, class Float>
Integer to_integer(Float rounded) {
  using Limits = std::numeric_limits<Integer>;
  if (std::isnan(rounded)) return 0;
  if (rounded <= static_cast<Float>(Limits::min())) return Limits::min();
  if (rounded >= static_cast<Float>(Limits::max())) return Limits::max();
  return static_cast<Integer>(rounded);
}

}  // namespace simt

inline int __float2int_rn(float x) { return simt::to_integer<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return simt::to_integer<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return simt::to_integer<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return simt::to_integer<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return simt::to_integer<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return simt::to_integer<unsigned>(std::trunc(x)); }
inline int __double2int_rn(double x) { return simt::to_integer<int>(std::nearbyint(x)); }
inline int __double2int_rz(double x) { return simt::to_integer<int>(std::trunc(x)); }
inline long long __double2ll_rn(double x) { return simt::to_integer<long long>(std::nearbyint(x)); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
inline double __ull2double_rn(unsigned long long x) { return static_cast<double>(x); }
