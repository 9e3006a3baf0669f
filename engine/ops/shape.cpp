#include "engine/ops/shape.h"

#include "engine/dispatch.h"
#include "engine/tape.h"
#include "kernels/basic/gather_rows.h"

namespace moat::engine {

Tensor reshape(const Tensor& x, const Shape& shape) {
  return recorded("reshape", {x}, x.detached().contiguous().reshaped(shape),
                  [from = x.shape()](const Tensors& d_y, const Needs&) -> Tensors {
                    return {d_y[0].contiguous().reshaped(from)};
                  });
}

Tensor permute(const Tensor& x, const Shape& axes) {
  return recorded("permute", {x}, x.detached().permuted(axes).contiguous(),
                  [axes](const Tensors& d_y, const Needs&) -> Tensors {
                    Shape back = Shape::of_rank(axes.rank(), 0);
                    for (int i = 0; i < axes.rank(); ++i) back[static_cast<int>(axes[i])] = i;
                    return {d_y[0].permuted(back).contiguous()};
                  });
}

Tensor slice(const Tensor& x, int axis, int64_t from, int64_t to) {
  return recorded("slice", {x}, x.detached().sliced(axis, from, to),
                  [=, shape = x.shape()](const Tensors& d_y, const Needs&) -> Tensors {
                    const Tensor d_x = Tensor::zeros(shape, d_y[0].dtype(), d_y[0].device());
                    d_x.sliced(axis, from, to).copy_from(d_y[0]);
                    return {d_x};
                  });
}

Tensor concat(const Tensors& parts, int axis) {
  require(!parts.empty(), "concat: there must be at least one part");
  const Tensor& model = parts[0];
  Shape shape = model.shape();
  const int at = axis < 0 ? axis + model.rank() : axis;
  require(at >= 0 && at < model.rank(), [&] {
    return text("concat: axis ", axis, " must exist in a tensor of shape ", shape.str());
  });
  shape[at] = 0;
  for (const Tensor& part : parts) {
    bool fits = part.rank() == model.rank() && part.dtype() == model.dtype();
    for (int i = 0; fits && i < model.rank(); ++i)
      fits = i == at || part.shape()[i] == model.shape()[i];
    require(fits, [&] {
      return text("concat: parts must agree in dtype and every axis but ", axis, ", got ",
                  model.shape().str(), " and ", part.shape().str());
    });
    common_device({model, part});
    shape[at] += part.shape()[at];
  }
  const Tensor y = Tensor::empty(shape, model.dtype(), model.device());
  std::vector<int64_t> ends;
  int64_t end = 0;
  for (const Tensor& part : parts) {
    y.sliced(at, end, end + part.shape()[at]).copy_from(part);
    ends.push_back(end += part.shape()[at]);
  }
  return recorded("concat", parts, y, [at, ends](const Tensors& d_y, const Needs& needs) {
    Tensors d_parts(ends.size());
    for (size_t i = 0; i < ends.size(); ++i)
      if (needs[i]) d_parts[i] = d_y[0].sliced(at, i == 0 ? 0 : ends[i - 1], ends[i]).contiguous();
    return d_parts;
  });
}

Tensor gather_rows(const Tensor& x_any, const Tensor& index_any) {
  require(x_any.rank() > 0 && index_any.rank() == 1 && index_any.dtype() == Dtype::i32, [&] {
    return text("gather_rows: x must have rows and index must be int32 [rows], got x ",
                x_any.shape().str(), " and index ", name_of(index_any.dtype()), " ",
                index_any.shape().str());
  });
  const Tensor x = x_any.contiguous(), index = index_any.contiguous();
  if (index.device().is_cpu())
    for (int64_t i = 0; i < index.size(); ++i) {
      const int32_t row = index.data_as<int32_t>()[i];
      require(0 <= row && row < x.dim(0), [&] {
        return text("gather_rows: every index must be in [0, ", x.dim(0), "), got ", row);
      });
    }
  Shape shape = x.shape();
  shape[0] = index.size();
  int64_t width = 1;
  for (int i = 1; i < x.rank(); ++i) width *= x.shape()[i];
  const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  dispatch(common_device({x, index}), [&](auto on) {
    return kernels::gather_rows(
        on, {.x = x.data(),
             .index = index.data_as<int32_t>(),
             .y = y.data(),
             .rows = to_int(index.size()),
             .sources = to_int(x.dim(0)),
             .row_bytes = width * static_cast<int64_t>(kernels::size_of(x.dtype()))});
  });
  return recorded(
      "gather_rows", {x_any}, y,
      [index, width, from = x.shape()](const Tensors& d_outputs, const Needs&) -> Tensors {
        const Tensor d_y = d_outputs[0].contiguous();
        const Tensor d_x = Tensor::empty(from, d_y.dtype(), d_y.device());
        const kernels::GatherRowsGrad args{.d_y = d_y.data(),
                                           .index = index.data_as<int32_t>(),
                                           .d_x = d_x.data(),
                                           .rows = to_int(index.size()),
                                           .sources = to_int(from[0]),
                                           .width = width,
                                           .dtype = d_y.dtype()};
        dispatch(
            d_y.device(), [&](auto on) { return kernels::gather_rows_grad_workspace(on, args); },
            [&](auto on) { return kernels::gather_rows_grad(on, args); });
        return {d_x};
      });
}

Tensor nhwc_from_nchw(const Tensor& x) { return x.permuted({0, 2, 3, 1}).contiguous(); }
Tensor nchw_from_nhwc(const Tensor& x) { return x.permuted({0, 3, 1, 2}).contiguous(); }

}  // namespace moat::engine
