#pragma once

// Convolution by its definition, one image (or one filter) at a time: the inside of conv2d.cpp for
// float64, which has no library.

#include <algorithm>
#include <cstdint>

#include "kernels/vision/conv2d.h"
#include "kernels/vision/conv2d_finish.h"

namespace moat::kernels {

// body(u, v, i, j) for every filter tap (u, v) of output pixel (p, q) that meets pixel (i, j).
template <class Body>
void for_each_tap(const Conv2dGeometry& g, int p, int q, Body&& body) {
  for (int u = 0; u < g.r; ++u)
    for (int v = 0; v < g.s; ++v) {
      const int i = p * g.stride + u - g.padding, j = q * g.stride + v - g.padding;
      if (i >= 0 && i < g.height && j >= 0 && j < g.width) body(u, v, i, j);
    }
}

// Offsets of a pixel or a tap; every one is followed by its channels.
inline int64_t x_at(const Conv2dGeometry& g, int i, int j) {
  return (int64_t{i} * g.width + j) * g.c_in;
}
inline int64_t y_at(const Conv2dGeometry& g, int p, int q) {
  return (int64_t{p} * g.out_width() + q) * g.c_out;
}
inline int64_t filter_at(const Conv2dGeometry& g, int o, int u, int v) {
  return ((int64_t{o} * g.r + u) * g.s + v) * g.c_in;
}

template <class T>
void forward_image(const Conv2d& a, int64_t image) {
  const Conv2dGeometry& g = a.geometry;
  const T* x = static_cast<const T*>(a.x) + image * g.x_size();
  const auto* filter = static_cast<const T*>(a.filter);
  const auto* bias = static_cast<const T*>(a.bias);
  const auto* residual = static_cast<const T*>(a.residual);
  T* y = static_cast<T*>(a.y);
  for (int p = 0; p < g.out_height(); ++p)
    for (int q = 0; q < g.out_width(); ++q)
      for (int o = 0; o < g.c_out; ++o) {
        T sum = 0;
        for_each_tap(g, p, q, [&](int u, int v, int i, int j) {
          const T *pixel = x + x_at(g, i, j), *tap = filter + filter_at(g, o, u, v);
          for (int c = 0; c < g.c_in; ++c) sum += pixel[c] * tap[c];
        });
        const int64_t at = image * g.y_size() + y_at(g, p, q) + o;
        if (bias) sum += bias[o];
        if (residual) sum += residual[at];
        y[at] = a.activation == ConvActivation::relu && !(sum > 0) ? T{0} : sum;
      }
}

template <class T>
void input_grad_image(const Conv2dInputGrad& a, int64_t image) {
  const Conv2dGeometry& g = a.geometry;
  const T* d_y = static_cast<const T*>(a.d_y) + image * g.y_size();
  const auto* filter = static_cast<const T*>(a.filter);
  T* d_x = static_cast<T*>(a.d_x) + image * g.x_size();
  std::fill_n(d_x, g.x_size(), T{0});
  for (int p = 0; p < g.out_height(); ++p)
    for (int q = 0; q < g.out_width(); ++q)
      for (int o = 0; o < g.c_out; ++o) {
        const T d = d_y[y_at(g, p, q) + o];
        for_each_tap(g, p, q, [&](int u, int v, int i, int j) {
          const T* tap = filter + filter_at(g, o, u, v);
          T* pixel = d_x + x_at(g, i, j);
          for (int c = 0; c < g.c_in; ++c) pixel[c] += d * tap[c];
        });
      }
  finish_input_grad<T>(a, image * g.x_size(), g.x_size());
}

// The gradient of one output channel's filter.
template <class T>
void weight_grad_channel(const Conv2dWeightGrad& a, int o) {
  const Conv2dGeometry& g = a.geometry;
  T* d_filter = static_cast<T*>(a.d_filter);
  std::fill_n(d_filter + filter_at(g, o, 0, 0), int64_t{g.r} * g.s * g.c_in, T{0});
  for (int64_t image = 0; image < a.n; ++image) {
    const T* x = static_cast<const T*>(a.x) + image * g.x_size();
    const T* d_y = static_cast<const T*>(a.d_y) + image * g.y_size();
    for (int p = 0; p < g.out_height(); ++p)
      for (int q = 0; q < g.out_width(); ++q) {
        const T d = d_y[y_at(g, p, q) + o];
        for_each_tap(g, p, q, [&](int u, int v, int i, int j) {
          const T* pixel = x + x_at(g, i, j);
          T* tap = d_filter + filter_at(g, o, u, v);
          for (int c = 0; c < g.c_in; ++c) tap[c] += d * pixel[c];
        });
      }
  }
}

}  // namespace moat::kernels
