#include "kernels/vision/crop_flip.h"

#include <algorithm>
#include <array>

#include "kernels/vision/crop_flip_draw.h"

namespace moat::kernels {

Status crop_flip(Cpu, const CropFlip& a) {
  if (!is_valid(a)) return Status::bad_args;
  std::array<float, 256> pixel;  // of every byte
  for (size_t v = 0; v < pixel.size(); ++v)
    pixel[v] = static_cast<float>(v) / static_cast<float>(a.max_value);

  const int64_t width = a.width, channels = a.channels, row = width * channels;
  for (int64_t i = 0; i < a.n; ++i) {
    const CropFlipDraw drawn = draw_of(a, a.ids[i]);
    const uint8_t* image = a.images + i * a.height * row;
    for (int64_t r = 0; r < a.height; ++r) {
      float* to = a.y + (i * a.height + r) * row;
      const int64_t y = r + drawn.dy;
      if (y < 0 || y >= a.height) {
        std::fill_n(to, row, 0.f);
        continue;
      }
      for (int64_t s = 0; s < width; ++s, to += channels) {
        const int64_t x = (drawn.flip ? width - 1 - s : s) + drawn.dx;
        const bool inside = x >= 0 && x < width;
        const uint8_t* from = image + y * row + (inside ? x * channels : 0);
        for (int64_t c = 0; c < channels; ++c) to[c] = inside ? pixel[from[c]] : 0.f;
      }
    }
  }
  return Status::ok;
}

}  // namespace moat::kernels
