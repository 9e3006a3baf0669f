// The pooling ops of vision.h.

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/ops/shape.h"
#include "engine/ops/vision.h"
#include "engine/tape.h"
#include "kernels/vision/pool2d.h"
#include "kernels/vision/subsample_pad.h"

namespace moat::engine {

namespace {

using kernels::PoolGeometry;

PoolGeometry pool_geometry(const char* op, const Tensor& x, int64_t window_height,
                           int64_t window_width, int stride, int padding) {
  require(x.rank() == 4 && is_floating(x.dtype()), [&] {
    return text(op, ": x must be a floating [n, h, w, c], got ", name_of(x.dtype()), " ",
                x.shape().str());
  });
  require(window_height >= 1 && window_width >= 1 && stride >= 1 && padding >= 0 &&
              int64_t{2} * padding <= std::min(window_height, window_width),
          [&] {
            return text(op, ": window and stride must be at least 1 and padding at most half a ",
                        "window, got ", window_height, ", ", stride, " and ", padding);
          });
  require(x.dim(1) + int64_t{2} * padding >= window_height &&
              x.dim(2) + int64_t{2} * padding >= window_width && x.dim(1) > 0 && x.dim(2) > 0 &&
              x.dim(3) > 0,
          [&] {
            return text(op, ": the padded image must hold the window, got ", x.shape().str(),
                        " and window ", window_height);
          });
  return {.n = to_int(x.dim(0)),
          .height = to_int(x.dim(1)),
          .width = to_int(x.dim(2)),
          .channels = to_int(x.dim(3)),
          .window_height = to_int(window_height),
          .window_width = to_int(window_width),
          .stride = stride,
          .padding = padding};
}

Shape output_shape(const PoolGeometry& g) {
  return {g.n, g.out_height(), g.out_width(), g.channels};
}
Shape input_shape(const PoolGeometry& g) { return {g.n, g.height, g.width, g.channels}; }

Tensor averaged(const char* op, const Tensor& x, const PoolGeometry& g) {
  const Tensor input = x.contiguous();
  const Tensor y = Tensor::empty(output_shape(g), x.dtype(), x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::avg_pool2d(
        on, {.x = input.data(), .y = y.data(), .geometry = g, .dtype = x.dtype()});
  });
  return recorded(op, {x}, y, [g](const Tensors& d, const Needs&) -> Tensors {
    const Tensor d_y = d[0].contiguous();
    const Tensor d_x = Tensor::empty(input_shape(g), d_y.dtype(), d_y.device());
    dispatch(d_y.device(), [&](auto on) {
      return kernels::avg_pool2d_grad(
          on, {.d_y = d_y.data(), .d_x = d_x.data(), .geometry = g, .dtype = d_y.dtype()});
    });
    return {d_x};
  });
}

}  // namespace

Tensor max_pool2d(const Tensor& x, int window, int stride, int padding) {
  const PoolGeometry g = pool_geometry("max_pool2d", x, window, window, stride, padding);
  const Tensor input = x.contiguous();
  const Tensor y = Tensor::empty(output_shape(g), x.dtype(), x.device());
  const Tensor winners =
      is_differentiated(x) ? Tensor::empty(y.shape(), Dtype::i32, x.device()) : Tensor{};
  dispatch(x.device(), [&](auto on) {
    return kernels::max_pool2d(on, {.x = input.data(),
                                    .y = y.data(),
                                    .winners = static_cast<int32_t*>(winners.data()),
                                    .geometry = g,
                                    .dtype = x.dtype()});
  });
  return recorded("max_pool2d", {x}, y, [winners, g](const Tensors& d, const Needs&) -> Tensors {
    const Tensor d_y = d[0].contiguous();
    const Tensor d_x = Tensor::empty(input_shape(g), d_y.dtype(), d_y.device());
    dispatch(d_y.device(), [&](auto on) {
      return kernels::max_pool2d_grad(on, {.d_y = d_y.data(),
                                           .winners = winners.data_as<int32_t>(),
                                           .d_x = d_x.data(),
                                           .geometry = g,
                                           .dtype = d_y.dtype()});
    });
    return {d_x};
  });
}

Tensor avg_pool2d(const Tensor& x, int window, int stride) {
  return averaged("avg_pool2d", x, pool_geometry("avg_pool2d", x, window, window, stride, 0));
}

Tensor global_avg_pool(const Tensor& x) {
  const bool has_pixels = x.rank() == 4;
  const PoolGeometry g = pool_geometry("global_avg_pool", x, has_pixels ? x.dim(1) : 1,
                                       has_pixels ? x.dim(2) : 1, 1, 0);
  return reshape(averaged("global_avg_pool", x, g), {x.dim(0), x.dim(3)});
}

Tensor subsample_pad(const Tensor& x, int stride, int c_out) {
  require(x.rank() == 4 && is_floating(x.dtype()) && x.dim(1) > 0 && x.dim(2) > 0 && x.dim(3) > 0,
          [&] {
            return text("subsample_pad: x must be a floating [n, h, w, c], got ",
                        name_of(x.dtype()), " ", x.shape().str());
          });
  require(stride >= 1 && c_out >= x.dim(3), [&] {
    return text("subsample_pad: stride must be at least 1 and c_out at least ", x.dim(3), ", got ",
                stride, " and ", c_out);
  });
  const Tensor input = x.contiguous();
  const Tensor y =
      Tensor::empty({x.dim(0), (x.dim(1) - 1) / stride + 1, (x.dim(2) - 1) / stride + 1, c_out},
                    x.dtype(), x.device());
  const kernels::SubsamplePad args{.x = input.data(),
                                   .y = y.data(),
                                   .n = to_int(x.dim(0)),
                                   .height = to_int(x.dim(1)),
                                   .width = to_int(x.dim(2)),
                                   .channels = to_int(x.dim(3)),
                                   .out_channels = c_out,
                                   .stride = stride,
                                   .front = (c_out - to_int(x.dim(3))) / 2,
                                   .dtype = x.dtype()};
  dispatch(x.device(), [&](auto on) { return kernels::subsample_pad(on, args); });
  return recorded("subsample_pad", {x}, y,
                  [args, shape = x.shape()](const Tensors& d, const Needs&) -> Tensors {
                    const Tensor d_y = d[0].contiguous();
                    const Tensor d_x = Tensor::empty(shape, d_y.dtype(), d_y.device());
                    dispatch(d_y.device(), [&](auto on) {
                      return kernels::subsample_pad_grad(on, {.d_y = d_y.data(),
                                                              .d_x = d_x.data(),
                                                              .n = args.n,
                                                              .height = args.height,
                                                              .width = args.width,
                                                              .channels = args.channels,
                                                              .out_channels = args.out_channels,
                                                              .stride = args.stride,
                                                              .front = args.front,
                                                              .dtype = args.dtype});
                    });
                    return {d_x};
                  });
}

}  // namespace moat::engine
