#include "engine/ops/reduce.h"

#include "engine/dispatch.h"
#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "kernels/basic/reduce.h"

namespace moat::engine {

namespace {

// A contiguous tensor seen as [outer, axis, inner].
struct AxisView {
  int64_t outer = 1, axis = 1, inner = 1;
  Shape reduced;  // without the axis
};

AxisView view_of(const char* name, const Tensor& x, int axis) {
  require(x.defined() && is_floating(x.dtype()),
          [&] { return text(name, ": the operand must be a tensor of floating-point numbers"); });
  const int at = axis < 0 ? axis + x.rank() : axis;
  require(at >= 0 && at < x.rank(), [&] {
    return text(name, ": axis ", axis, " must exist in a tensor of shape ", x.shape().str());
  });
  AxisView v;
  for (int i = 0; i < x.rank(); ++i) {
    (i < at ? v.outer : i == at ? v.axis : v.inner) *= x.shape()[i];
    if (i != at) v.reduced.push_back(x.shape()[i]);
  }
  return v;
}

// Sum over the middle of [outer, axis, inner]; x is contiguous. No tape.
Tensor summed(const Tensor& x, int64_t outer, int64_t axis, int64_t inner, const Shape& shape,
              Dtype dtype) {
  const Tensor y = Tensor::empty(shape, dtype, x.device());
  const kernels::SumAxis args{x.data(), y.data(), outer, axis, inner, x.dtype(), dtype};
  dispatch(
      x.device(), [&](auto on) { return kernels::sum_workspace(on, args); },
      [&](auto on) { return kernels::sum(on, args); });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x) {
  require(x.defined() && is_floating(x.dtype()),
          "sum: the operand must be a tensor of floating-point numbers");
  return recorded("sum", {x}, summed(x.contiguous(), 1, x.size(), 1, {}, x.dtype()),
                  [shape = x.shape()](const Tensors& d_y, const Needs&) -> Tensors {
                    return {d_y[0].expanded(shape).contiguous()};
                  });
}

Tensor sum(const Tensor& x, int axis) { return sum(x, axis, x.dtype()); }

Tensor sum(const Tensor& x, int axis, Dtype dtype) {
  const AxisView v = view_of("sum", x, axis);
  require(dtype == x.dtype() || dtype == master_of(x.dtype()), [&] {
    return text("sum: a ", name_of(x.dtype()), " tensor has sums in ", name_of(x.dtype()), " or ",
                name_of(master_of(x.dtype())), ", not in ", name_of(dtype));
  });
  const Tensor y = summed(x.contiguous(), v.outer, v.axis, v.inner, v.reduced, dtype);
  return recorded(
      "sum", {x}, y,
      [v, shape = x.shape(), from = x.dtype()](const Tensors& d_y, const Needs&) -> Tensors {
        const Tensor column = d_y[0].to(from).contiguous().reshaped({v.outer, 1, v.inner});
        return {column.expanded({v.outer, v.axis, v.inner}).contiguous().reshaped(shape)};
      });
}

Tensor mean(const Tensor& x) { return scale(sum(x), 1.0 / static_cast<double>(x.size())); }

Tensor mean(const Tensor& x, int axis) {
  return scale(sum(x, axis), 1.0 / static_cast<double>(x.dim(axis)));
}

namespace {

struct Maximum {
  Tensor values, index;
};

Maximum maximum_over(const char* name, const Tensor& x_any, const AxisView& v) {
  require(v.axis > 0 || v.outer * v.inner == 0, [&] {
    return text(name, ": the axis must not be empty, got a tensor of shape ", x_any.shape().str());
  });
  const Tensor x = x_any.contiguous();
  const Maximum m{Tensor::empty(v.reduced, x.dtype(), x.device()),
                  Tensor::empty(v.reduced, Dtype::i32, x.device())};
  dispatch(x.device(), [&](auto on) {
    return kernels::max_axis(on, {.x = x.data(),
                                  .y = m.values.data(),
                                  .index = m.index.data_as<int32_t>(),
                                  .outer = v.outer,
                                  .axis = v.axis,
                                  .inner = v.inner,
                                  .dtype = x.dtype()});
  });
  return m;
}

}  // namespace

Tensor max(const Tensor& x, int axis) {
  const AxisView v = view_of("max", x, axis);
  const Maximum m = maximum_over("max", x, v);
  return recorded(
      "max", {x}, m.values,
      [v, index = m.index, shape = x.shape()](const Tensors& d_outputs, const Needs&) -> Tensors {
        const Tensor d_y = d_outputs[0].contiguous();
        const Tensor d_x = Tensor::empty(shape, d_y.dtype(), d_y.device());
        dispatch(d_y.device(), [&](auto on) {
          return kernels::max_axis_grad(on, {.d_y = d_y.data(),
                                             .index = index.data_as<int32_t>(),
                                             .d_x = d_x.data(),
                                             .outer = v.outer,
                                             .axis = v.axis,
                                             .inner = v.inner,
                                             .dtype = d_y.dtype()});
        });
        return {d_x};
      });
}

Tensor argmax(const Tensor& x, int axis) {
  return maximum_over("argmax", x, view_of("argmax", x, axis)).index;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int front = x.rank() - shape.rank();
  bool fits = front >= 0;
  for (int i = 0; fits && i < shape.rank(); ++i)
    fits = shape[i] == 1 || shape[i] == x.shape()[front + i];
  require(fits, [&] {
    return text("sum_to: ", shape.str(), " must broadcast to the operand's shape, got ",
                x.shape().str());
  });
  Tensor y = x.contiguous();
  int64_t outer = 1, axis = 1;
  // Each run of neighbouring broadcast axes is one sum over the middle of [outer, axis, inner].
  for (int i = 0; i < x.rank(); ++i) {
    const bool summed_over = i < front || shape[i - front] != x.shape()[i];
    if (summed_over) axis *= x.shape()[i];
    const bool next =
        i + 1 < x.rank() && (i + 1 < front || shape[i + 1 - front] != x.shape()[i + 1]);
    if (summed_over && !next) {
      int64_t inner = 1;
      for (int j = i + 1; j < x.rank(); ++j) inner *= x.shape()[j];
      y = summed(y, outer, axis, inner, {outer, inner}, y.dtype());
      axis = 1;
    }
    if (!summed_over) outer *= x.shape()[i];
  }
  return recorded("sum_to", {x}, y.reshaped(shape),
                  [from = x.shape()](const Tensors& d_y, const Needs&) -> Tensors {
                    return {d_y[0].expanded(from).contiguous()};
                  });
}

}  // namespace moat::engine
