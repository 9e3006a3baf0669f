#pragma once

#include <cmath>

#include "kernels/basic/elementwise.h"

namespace moat::kernels {

// What each op makes of one value, in the compute type, on both targets.
template <UnaryOp kOp, class C>
constexpr C unary_value(C x, C p, C q) {
  if constexpr (kOp == UnaryOp::relu) return x <= 0 ? C(0) : x;
  if constexpr (kOp == UnaryOp::exp) return std::exp(x);
  if constexpr (kOp == UnaryOp::log) return std::log(x);
  if constexpr (kOp == UnaryOp::sqrt) return std::sqrt(x);
  if constexpr (kOp == UnaryOp::square) return x * x;
  if constexpr (kOp == UnaryOp::abs) return std::abs(x);
  if constexpr (kOp == UnaryOp::sign) return x > 0 ? C(1) : x < 0 ? C(-1) : x;
  if constexpr (kOp == UnaryOp::tanh) return std::tanh(x);
  if constexpr (kOp == UnaryOp::clamp) return x < p ? p : x > q ? q : x;
  if constexpr (kOp == UnaryOp::affine) return p * x + q;
}

// d_x of d_y = d.
template <UnaryOp kOp, class C>
constexpr C unary_slope(C d, C saved, C p, C q) {
  if constexpr (kOp == UnaryOp::relu) return saved <= 0 ? C(0) : d;
  if constexpr (kOp == UnaryOp::exp) return d * saved;
  if constexpr (kOp == UnaryOp::log) return d / saved;
  if constexpr (kOp == UnaryOp::sqrt) return d / (2 * saved);
  if constexpr (kOp == UnaryOp::square) return 2 * d * saved;
  if constexpr (kOp == UnaryOp::abs) return saved > 0 ? d : saved < 0 ? -d : C(0);
  if constexpr (kOp == UnaryOp::sign) return C(0);
  if constexpr (kOp == UnaryOp::tanh) return d * (1 - saved * saved);
  if constexpr (kOp == UnaryOp::clamp) return saved >= p && saved <= q ? d : C(0);
  if constexpr (kOp == UnaryOp::affine) return p * d;
}

template <BinaryOp kOp, class C>
constexpr C binary_value(C a, C b) {
  const bool takes_first = a >= b || a != a;
  if constexpr (kOp == BinaryOp::add) return a + b;
  if constexpr (kOp == BinaryOp::sub) return a - b;
  if constexpr (kOp == BinaryOp::mul) return a * b;
  if constexpr (kOp == BinaryOp::div) return a / b;
  if constexpr (kOp == BinaryOp::maximum) return takes_first ? a : b;
  if constexpr (kOp == BinaryOp::at_least) return takes_first ? C(1) : C(0);
  if constexpr (kOp == BinaryOp::keep) return b != 0 ? a : C(0);
}

// Calls f.operator()<kOp>() with the op as a constant.
template <class F>
constexpr Status with_op(UnaryOp op, F&& f) {
  switch (op) {
    case UnaryOp::relu:
      return f.template operator()<UnaryOp::relu>();
    case UnaryOp::exp:
      return f.template operator()<UnaryOp::exp>();
    case UnaryOp::log:
      return f.template operator()<UnaryOp::log>();
    case UnaryOp::sqrt:
      return f.template operator()<UnaryOp::sqrt>();
    case UnaryOp::square:
      return f.template operator()<UnaryOp::square>();
    case UnaryOp::abs:
      return f.template operator()<UnaryOp::abs>();
    case UnaryOp::sign:
      return f.template operator()<UnaryOp::sign>();
    case UnaryOp::tanh:
      return f.template operator()<UnaryOp::tanh>();
    case UnaryOp::clamp:
      return f.template operator()<UnaryOp::clamp>();
    case UnaryOp::affine:
      return f.template operator()<UnaryOp::affine>();
  }
  return Status::bad_args;
}
template <class F>
constexpr Status with_op(BinaryOp op, F&& f) {
  switch (op) {
    case BinaryOp::add:
      return f.template operator()<BinaryOp::add>();
    case BinaryOp::sub:
      return f.template operator()<BinaryOp::sub>();
    case BinaryOp::mul:
      return f.template operator()<BinaryOp::mul>();
    case BinaryOp::div:
      return f.template operator()<BinaryOp::div>();
    case BinaryOp::maximum:
      return f.template operator()<BinaryOp::maximum>();
    case BinaryOp::at_least:
      return f.template operator()<BinaryOp::at_least>();
    case BinaryOp::keep:
      return f.template operator()<BinaryOp::keep>();
  }
  return Status::bad_args;
}

}  // namespace moat::kernels
