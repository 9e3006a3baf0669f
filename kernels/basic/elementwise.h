#pragma once

#include <array>
#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

enum class UnaryOp : uint8_t {
  relu,  // max(x, 0)
  exp,
  log,
  sqrt,
  square,
  abs,
  sign,  // -1, 0 or 1
  tanh,
  clamp,   // min(max(x, p), q)
  affine,  // p x + q
};

// y[i] = op(x[i]) for i < count; y may be x. NaN gives NaN in every op.
struct Unary {
  const void* x;  // [count]
  void* y;        // [count]
  int64_t count;
  UnaryOp op;
  double p, q;  // clamp: bounds; affine: scale and shift
  Dtype dtype;
};
Status unary(Cpu, const Unary&);
Status unary(Cuda, const Unary&);

// What op's gradient is computed from.
enum class Saved : uint8_t { nothing, x, y };
constexpr Saved saved_by(UnaryOp op) {
  switch (op) {
    case UnaryOp::sign:
    case UnaryOp::affine:
      return Saved::nothing;
    case UnaryOp::relu:
    case UnaryOp::exp:
    case UnaryOp::sqrt:
    case UnaryOp::tanh:
      return Saved::y;
    default:
      return Saved::x;
  }
}

// d_x[i] = d_y[i] · op'(x[i]); 0 for relu and abs at 0 and for sign, 1 for clamp on its bounds.
// Where x is NaN relu passes d_y on and clamp gives 0.
struct UnaryGrad {
  const void* d_y;    // [count]
  const void* saved;  // [count]: x, y or unused, as saved_by(op) says
  void* d_x;          // [count]
  int64_t count;
  UnaryOp op;
  double p, q;
  Dtype dtype;
};
Status unary_grad(Cpu, const UnaryGrad&);
Status unary_grad(Cuda, const UnaryGrad&);

enum class BinaryOp : uint8_t {
  add,
  sub,
  mul,
  div,
  maximum,   // a at a tie; NaN wins
  at_least,  // 1 where maximum takes a, else 0
  keep,      // a where b is not 0, else 0
};

// y[i, …] = op(a[i, …], b[i, …]); y is dense, strides are in elements, 0 broadcasts. A dense
// operand may be y.
struct Binary {
  const void* a;
  const void* b;
  void* y;
  std::array<int64_t, 6> extents;  // unused axes: 1
  std::array<int64_t, 6> a_strides, b_strides;
  BinaryOp op;
  Dtype dtype;
};
Status binary(Cpu, const Binary&);
Status binary(Cuda, const Binary&);

}  // namespace moat::kernels
