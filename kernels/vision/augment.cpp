#include "kernels/vision/augment.h"

#include <algorithm>
#include <array>

#include "kernels/vision/augment_draw.h"

namespace moat::kernels {

Status augment(Cpu, const Augment& a) {
  if (!is_valid(a)) return Status::bad_args;
  std::array<float, 256> pixel;  // of every byte
  for (size_t v = 0; v < pixel.size(); ++v)
    pixel[v] = static_cast<float>(v) / static_cast<float>(a.max_value);

  const int64_t height = a.height, width = a.width, channels = a.channels;
  float* to = a.y;
  for (int64_t i = 0; i < a.n; ++i) {
    const AugmentDraw drawn = draw_of(a, a.ids[i]);
    const uint8_t* image = a.images + i * height * width * channels;
    for (int64_t r = 0; r < height; ++r) {
      const int64_t y = r + drawn.dy;
      const bool is_row = y >= 0 && y < height;
      for (int64_t s = 0; s < width; ++s, to += channels) {
        const int64_t x = (drawn.flip ? width - 1 - s : s) + drawn.dx;
        if (drawn.cuts(static_cast<uint32_t>(r), static_cast<uint32_t>(s))) {
          for (int64_t c = 0; c < channels; ++c) to[c] = a.fill ? a.fill[c] : 0.f;
        } else if (is_row && x >= 0 && x < width) {
          const uint8_t* from = image + (y * width + x) * channels;
          for (int64_t c = 0; c < channels; ++c) to[c] = pixel[from[c]];
        } else {
          std::fill_n(to, channels, 0.f);
        }
      }
    }
  }
  return Status::ok;
}

}  // namespace moat::kernels
