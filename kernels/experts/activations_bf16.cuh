#pragma once

// The activations of kernels/experts/activation_functions.h for results that are rounded to
// bfloat16: the same functions, off by at most some 2^-20 of x, on the approximate instructions for
// 2^x and 1 / x. The exact ones take longer than memory does (gelu of 51 million values: 114 us on
// an H200 for 50 us of traffic), and in Hopper's products, where a thread has up to 128 results,
// longer than a product of few terms.

#include "kernels/cuda.cuh"
#include "kernels/experts/activation_functions.h"
#include "kernels/ptx.cuh"

namespace moat::kernels {

struct Bf16Sigmoid {
  static __device__ float value(float x) {
    return ptx::approximate_reciprocal(1.0f +
                                       ptx::approximate_exp2(-std::numbers::log2e_v<float> * x));
  }
};

struct Bf16Silu {
  static __device__ float value(float x) { return x * Bf16Sigmoid::value(x); }
};

// (1 + tanh(u)) / 2 is the sigmoid of 2u.
struct Bf16GeluTanh {
  static __device__ float value(float x) {
    constexpr float kScale = 2 * GeluTanh<float>::kScale, kCubic = GeluTanh<float>::kCubic;
    return x * Bf16Sigmoid::value(kScale * x * (1.0f + kCubic * x * x));
  }
  static __device__ float slope(float x) {
    constexpr float kScale = 2 * GeluTanh<float>::kScale, kCubic = GeluTanh<float>::kCubic;
    const float s = Bf16Sigmoid::value(kScale * x * (1.0f + kCubic * x * x));
    return s + x * s * (1.0f - s) * kScale * (1.0f + 3 * kCubic * x * x);
  }
};

// The normal distribution's tail beyond |x| by Abramowitz and Stegun 26.2.17, error 7.5e-8; their
// coefficients over sqrt(2 pi), so that e^(-x^2 / 2) is their only other factor.
struct Bf16Gelu {
  static __device__ Normal<float> normal(float x) {
    constexpr float kDensity = 0.39894228f;
    const float t = ptx::approximate_reciprocal(1.0f + 0.2316419f * fabsf(x));
    const float polynomial =
        t * (kDensity * 0.319381530f +
             t * (kDensity * -0.356563782f +
                  t * (kDensity * 1.781477937f +
                       t * (kDensity * -1.821255978f + t * (kDensity * 1.330274429f)))));
    const float power = ptx::approximate_exp2(-0.5f * std::numbers::log2e_v<float> * x * x),
                tail = power * polynomial;
    return {x < 0 ? tail : 1.0f - tail, kDensity * power};
  }
  static __device__ float value(float x) { return x * normal(x).cdf; }
  static __device__ float slope(float x) {
    const Normal<float> at_x = normal(x);
    return at_x.cdf + x * at_x.density;
  }
};

// Calls f.operator()<Function>() for the ones that take a column at a time: all but swiglu.
template <class F>
constexpr void with_bf16_function(ExpertActivation activation, F&& f) {
  switch (activation) {
    case ExpertActivation::relu:
      return f.template operator()<Relu<float>>();
    case ExpertActivation::gelu:
      return f.template operator()<Bf16Gelu>();
    case ExpertActivation::gelu_tanh:
      return f.template operator()<Bf16GeluTanh>();
    default:
      return f.template operator()<Identity<float>>();
  }
}

}  // namespace moat::kernels
