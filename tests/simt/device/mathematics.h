#pragma once

// Mathematics of device code: what <math.h> has, and CUDA's own functions. The approximate ones
// (__expf …) are exact here: results differ from a GPU's within their stated error.

#include <math.h>

#include <algorithm>
#include <type_traits>

// One template for every mix of types: with overloads, min(int, unsigned) would choose float.
template <class A, class B, class R = std::common_type_t<A, B>>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr R min(A a, B b) {
  if constexpr (std::is_floating_point_v<R>)
    return std::fmin(static_cast<R>(a), static_cast<R>(b));
  else
    return static_cast<R>(b) < static_cast<R>(a) ? static_cast<R>(b) : static_cast<R>(a);
}
template <class A, class B, class R = std::common_type_t<A, B>>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr R max(A a, B b) {
  if constexpr (std::is_floating_point_v<R>)
    return std::fmax(static_cast<R>(a), static_cast<R>(b));
  else
    return static_cast<R>(a) < static_cast<R>(b) ? static_cast<R>(b) : static_cast<R>(a);
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __log10f(float x) { return std::log10(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return std::fmin(1.0f, std::fmax(0.0f, x)); }

// Each rounded once, never contracted.
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline double __fma_rn(double x, double y, double z) { return std::fma(x, y, z); }
