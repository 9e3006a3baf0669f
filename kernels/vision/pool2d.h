#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Windows over NHWC images: output pixel (p, q) sees the rows p·stride - padding + [0,
// window_height) and columns likewise; pixels outside the image do not count.
struct PoolGeometry {
  int n, height, width, channels;
  int window_height, window_width, stride, padding;  // 2 padding <= the smaller window extent

  constexpr int out_height() const { return (height + 2 * padding - window_height) / stride + 1; }
  constexpr int out_width() const { return (width + 2 * padding - window_width) / stride + 1; }
};

// The largest value of each window. The first one in row order wins a tie; the first NaN wins.
struct MaxPool2d {
  const void* x;     // [n, height, width, channels]
  void* y;           // [n, h', w', channels]
  int32_t* winners;  // like y: the pixel, row · width + column, that won; or nullptr
  PoolGeometry geometry;
  Dtype dtype;
};
Status max_pool2d(Cpu, const MaxPool2d&);
Status max_pool2d(Cuda, const MaxPool2d&);

// d_x[i, j] = the sum of d_y over the windows that (i, j) won, in row order.
struct MaxPool2dGrad {
  const void* d_y;         // [n, h', w', channels]
  const int32_t* winners;  // like d_y
  void* d_x;               // [n, height, width, channels]
  PoolGeometry geometry;
  Dtype dtype;
};
Status max_pool2d_grad(Cpu, const MaxPool2dGrad&);
Status max_pool2d_grad(Cuda, const MaxPool2dGrad&);

// The mean of each window, padding 0. One window as large as the image is the global average.
struct AvgPool2d {
  const void* x;  // [n, height, width, channels]
  void* y;        // [n, h', w', channels]
  PoolGeometry geometry;
  Dtype dtype;
};
Status avg_pool2d(Cpu, const AvgPool2d&);
Status avg_pool2d(Cuda, const AvgPool2d&);

struct AvgPool2dGrad {
  const void* d_y;  // [n, h', w', channels]
  void* d_x;        // [n, height, width, channels]
  PoolGeometry geometry;
  Dtype dtype;
};
Status avg_pool2d_grad(Cpu, const AvgPool2dGrad&);
Status avg_pool2d_grad(Cuda, const AvgPool2dGrad&);

}  // namespace moat::kernels
