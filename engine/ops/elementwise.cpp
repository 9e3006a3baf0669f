#include "engine/ops/elementwise.h"

#include "engine/dispatch.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "kernels/basic/elementwise.h"

namespace moat::engine {

using kernels::BinaryOp;
using kernels::Saved;
using kernels::UnaryOp;

namespace {

void require_floating(const char* name, const Tensor& x, Where where) {
  require(
      x.defined() && is_floating(x.dtype()),
      [&] {
        return text(name, ": the operand must hold floating-point numbers, ",
                    x.defined() ? text("got ", name_of(x.dtype())) : "got an undefined tensor");
      },
      where);
}

// The map alone, without a tape.
Tensor mapped(UnaryOp op, const Tensor& x, double p, double q) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::unary(on, {.x = x.data(),
                               .y = y.data(),
                               .count = x.size(),
                               .op = op,
                               .p = p,
                               .q = q,
                               .dtype = x.dtype()});
  });
  return y;
}

Tensor unary_grad(UnaryOp op, const Tensor& d_y_any, const Tensor& saved, double p, double q) {
  const Tensor d_y = d_y_any.contiguous();
  const Tensor d_x = Tensor::empty(d_y.shape(), d_y.dtype(), d_y.device());
  dispatch(d_y.device(), [&](auto on) {
    return kernels::unary_grad(on, {.d_y = d_y.data(),
                                    .saved = saved.data(),
                                    .d_x = d_x.data(),
                                    .count = d_y.size(),
                                    .op = op,
                                    .p = p,
                                    .q = q,
                                    .dtype = d_y.dtype()});
  });
  return d_x;
}

Tensor unary(const char* name, UnaryOp op, const Tensor& x_any, double p = 0, double q = 0,
             Where where = Where::here()) {
  require_floating(name, x_any, where);
  const Tensor x = x_any.contiguous(), y = mapped(op, x, p, q);
  const Saved saved_by = kernels::saved_by(op);
  const Tensor saved = saved_by == Saved::x ? x : saved_by == Saved::y ? y : Tensor{};
  return recorded(name, {x_any}, y, [=](const Tensors& d_y, const Needs&) -> Tensors {
    return {unary_grad(op, d_y[0], saved, p, q)};
  });
}

// The map alone, without a tape; operands may be views.
Tensor binary(const char* name, BinaryOp op, const Tensor& a, const Tensor& b,
              Where where = Where::here()) {
  require_floating(name, a, where);
  require_floating(name, b, where);
  require(
      a.dtype() == b.dtype(),
      [&] {
        return text(name, ": both operands must have one dtype, got ", name_of(a.dtype()), " and ",
                    name_of(b.dtype()));
      },
      where);
  const Shape shape = broadcast(a.shape(), b.shape());
  const Tensor y = Tensor::empty(shape, a.dtype(), common_device({a, b}, where));
  dispatch(y.device(), [&](auto on) {
    return kernels::binary(on, {.a = a.data(),
                                .b = b.data(),
                                .y = y.data(),
                                .extents = shape.padded(1),
                                .a_strides = a.expanded(shape).strides().padded(0),
                                .b_strides = b.expanded(shape).strides().padded(0),
                                .op = op,
                                .dtype = y.dtype()});
  });
  return y;
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  return recorded("add", {a, b}, binary("add", BinaryOp::add, a, b),
                  [a_shape = a.shape(), b_shape = b.shape()](const Tensors& d_y,
                                                             const Needs& needs) -> Tensors {
                    return {needs[0] ? sum_to(d_y[0], a_shape) : Tensor{},
                            needs[1] ? sum_to(d_y[0], b_shape) : Tensor{}};
                  });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  return recorded("sub", {a, b}, binary("sub", BinaryOp::sub, a, b),
                  [a_shape = a.shape(), b_shape = b.shape()](const Tensors& d_y,
                                                             const Needs& needs) -> Tensors {
                    return {needs[0] ? sum_to(d_y[0], a_shape) : Tensor{},
                            needs[1] ? scale(sum_to(d_y[0], b_shape), -1) : Tensor{}};
                  });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  const Tensor y = binary("mul", BinaryOp::mul, a, b);
  return recorded("mul", {a, b}, y, [a, b](const Tensors& d_y, const Needs& needs) -> Tensors {
    return {needs[0] ? sum_to(mul(d_y[0], b), a.shape()) : Tensor{},
            needs[1] ? sum_to(mul(d_y[0], a), b.shape()) : Tensor{}};
  });
}

Tensor div(const Tensor& a, const Tensor& b) {
  const Tensor y = binary("div", BinaryOp::div, a, b);
  return recorded(
      "div", {a, b}, y,
      [y, b, a_shape = a.shape()](const Tensors& d_outputs, const Needs& needs) -> Tensors {
        const Tensor d_a = div(d_outputs[0], b);
        return {needs[0] ? sum_to(d_a, a_shape) : Tensor{},
                needs[1] ? scale(sum_to(mul(d_a, y), b.shape()), -1) : Tensor{}};
      });
}

Tensor maximum(const Tensor& a, const Tensor& b) {
  const Tensor y = binary("maximum", BinaryOp::maximum, a, b);
  return recorded("maximum", {a, b}, y, [a, b](const Tensors& d_y, const Needs& needs) -> Tensors {
    const Tensor from_a = binary("maximum", BinaryOp::at_least, a, b);
    const auto where = [&](const Tensor& mask) {
      return binary("maximum", BinaryOp::keep, d_y[0], mask);
    };
    return {needs[0] ? sum_to(where(from_a), a.shape()) : Tensor{},
            needs[1] ? sum_to(where(affine(from_a, -1, 1)), b.shape()) : Tensor{}};
  });
}

Tensor affine(const Tensor& x, double scale, double shift) {
  return unary("affine", UnaryOp::affine, x, scale, shift);
}

Tensor relu(const Tensor& x) {
  require_floating("relu", x, Where::here());
  return recorded(
      "relu", {x}, mapped(UnaryOp::relu, x.contiguous(), 0, 0),
      [](const Tensors& d_y, const Needs&) -> Tensors { return {d_y[0]}; }, Source::relu);
}
Tensor behind_relu(const Tensor& d_y, const Tensor& y) {
  return unary_grad(UnaryOp::relu, d_y, y.contiguous(), 0, 0);
}

Tensor exp(const Tensor& x) { return unary("exp", UnaryOp::exp, x); }
Tensor log(const Tensor& x) { return unary("log", UnaryOp::log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", UnaryOp::sqrt, x); }
Tensor square(const Tensor& x) { return unary("square", UnaryOp::square, x); }
Tensor abs(const Tensor& x) { return unary("abs", UnaryOp::abs, x); }
Tensor sign(const Tensor& x) { return unary("sign", UnaryOp::sign, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", UnaryOp::tanh, x); }

Tensor clamp(const Tensor& x, double low, double high) {
  require(low <= high,
          [&] { return text("clamp: low must not exceed high, got ", low, " and ", high); });
  return unary("clamp", UnaryOp::clamp, x, low, high);
}

Tensor cast(const Tensor& x, Dtype dtype) {
  return recorded("cast", {x}, x.detached().to(dtype),
                  [from = x.dtype()](const Tensors& d_y, const Needs&) -> Tensors {
                    return {d_y[0].to(from)};
                  });
}

}  // namespace moat::engine
