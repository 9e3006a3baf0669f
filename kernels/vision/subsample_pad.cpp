#include "kernels/vision/subsample_pad.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

template <class Args>
bool is_valid(const Args& a) {
  return a.n >= 0 && a.height > 0 && a.width > 0 && a.channels > 0 && a.stride > 0 &&
         a.front >= 0 && int64_t{a.front} + a.channels <= a.out_channels;
}

template <class Args>
int out_height(const Args& a) {
  return (a.height - 1) / a.stride + 1;
}
template <class Args>
int out_width(const Args& a) {
  return (a.width - 1) / a.stride + 1;
}

template <class Body>
Status for_each_pixel(int64_t pixels, int channels, Body&& body) {
  parallel_for(pixels, std::max(1, 16384 / channels), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) body(i);
  });
  return Status::ok;
}

}  // namespace

Status subsample_pad(Cpu, const SubsamplePad& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int h = out_height(a), w = out_width(a);
  return with_float(a.dtype, [&]<class T>() {
    return for_each_pixel(int64_t{a.n} * h * w, a.out_channels, [&](int64_t pixel) {
      const int64_t image = pixel / w / h, i = pixel / w % h * a.stride, j = pixel % w * a.stride;
      const T* x = static_cast<const T*>(a.x) + ((image * a.height + i) * a.width + j) * a.channels;
      T* y = static_cast<T*>(a.y) + pixel * a.out_channels;
      std::fill_n(y, a.out_channels, T{});
      std::copy_n(x, a.channels, y + a.front);
    });
  });
}

Status subsample_pad_grad(Cpu, const SubsamplePadGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int h = out_height(a), w = out_width(a);
  return with_float(a.dtype, [&]<class T>() {
    return for_each_pixel(int64_t{a.n} * a.height * a.width, a.channels, [&](int64_t pixel) {
      const int64_t image = pixel / a.width / a.height, i = pixel / a.width % a.height,
                    j = pixel % a.width;
      T* d_x = static_cast<T*>(a.d_x) + pixel * a.channels;
      if (i % a.stride != 0 || j % a.stride != 0) {
        std::fill_n(d_x, a.channels, T{});
        return;
      }
      const int64_t source = (image * h + i / a.stride) * w + j / a.stride;
      std::copy_n(static_cast<const T*>(a.d_y) + source * a.out_channels + a.front, a.channels,
                  d_x);
    });
  });
}

}  // namespace moat::kernels
