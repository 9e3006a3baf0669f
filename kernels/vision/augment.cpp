#include "kernels/vision/augment.h"

#include <algorithm>
#include <array>

#include "kernels/vision/augment_draw.h"
#include "kernels/vision/triangle.h"

namespace moat::kernels {

namespace {

// The pixels of every byte.
std::array<float, 256> pixels_of_bytes(int max_value) {
  std::array<float, 256> pixel;
  for (size_t v = 0; v < pixel.size(); ++v)
    pixel[v] = static_cast<float>(v) / static_cast<float>(max_value);
  return pixel;
}

// write(to, row, column): the values of a pixel of the crop.
template <class Write>
void write_image(const Augment& a, const AugmentDraw& drawn, float* to, Write write) {
  for (int r = 0; r < a.y_height; ++r)
    for (int s = 0; s < a.y_width; ++s, to += a.channels)
      if (!drawn.cuts(static_cast<uint32_t>(r), static_cast<uint32_t>(s)))
        write(to, r, drawn.flip ? a.y_width - 1 - s : s);
      else if (a.fill)
        std::copy_n(a.fill, a.channels, to);
      else
        std::fill_n(to, a.channels, 0.f);
}

}  // namespace

Status augment(Cpu, const Augment& a) {
  if (!is_valid(a)) return Status::bad_args;
  const std::array<float, 256> pixel = pixels_of_bytes(a.max_value);
  const int64_t stride = int64_t{a.width} * a.channels, channels = a.channels;
  for (int64_t i = 0; i < a.n; ++i) {
    const AugmentDraw drawn = a.crop == Crop::area ? box_of(a, a.ids[i]) : window_of(a, a.ids[i]);
    const uint8_t* image = a.images + i * a.height * stride;
    float* y = a.y + i * a.y_height * a.y_width * channels;
    if (a.crop == Crop::area) {
      const uint8_t* box = image + drawn.dy * stride + drawn.dx * channels;
      write_image(a, drawn, y, [&](float* to, int r, int s) {
        const Triangle row(r, drawn.height, a.y_height), column(s, drawn.width, a.y_width);
        for (int c = 0; c < channels; ++c)
          to[c] = resampled(box + c, stride, a.channels, row, column, a.max_value);
      });
    } else {
      write_image(a, drawn, y, [&](float* to, int64_t r, int64_t s) {
        const int64_t row = r + drawn.dy, column = s + drawn.dx;
        if (row < 0 || row >= a.height || column < 0 || column >= a.width) {
          std::fill_n(to, channels, 0.f);
          return;
        }
        const uint8_t* from = image + row * stride + column * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = pixel[from[c]];
      });
    }
  }
  return Status::ok;
}

}  // namespace moat::kernels
