#include "data/augment.h"

#include <algorithm>

#include "engine/random.h"

namespace moat::data {

using engine::require;
using engine::Tensor;
using engine::text;

namespace {
struct Draw {
  int64_t dy, dx;  // of the window, in [-p, p]
  bool flip;
};

Draw draw(const Augmentation& augmentation, const engine::RandomKey& key, int32_t id) {
  const int64_t padding = augmentation.crop_padding;
  const auto offset = [&](uint32_t element) {  // uniform in [-p, p]
    const uint64_t bits = random_bits(key, static_cast<uint32_t>(id), element);
    return static_cast<int64_t>(bits * static_cast<uint64_t>(2 * padding + 1) >> 32) - padding;
  };
  return {padding > 0 ? offset(0) : 0, padding > 0 ? offset(1) : 0,
          augmentation.flip == Flip::horizontal &&
              random_bits(key, static_cast<uint32_t>(id), 2) >> 31 != 0};
}
}  // namespace

Batch augmented(const Batch& batch, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch) {
  require(augmentation.crop_padding >= 0, [&] {
    return text("augment: crop_padding must not be negative, got ", augmentation.crop_padding);
  });
  require(batch.images.rank() == 4, [&] {
    return text("augment: images must be [n, height, width, channels], got ",
                batch.images.shape().str());
  });
  if (augmentation.crop_padding == 0 && augmentation.flip == Flip::none) return batch;
  const Tensor images = batch.images.contiguous(), ids = batch.ids.contiguous();
  const int64_t n = images.dim(0), height = images.dim(1), width = images.dim(2),
                channels = images.dim(3);
  Batch out{Tensor::empty(images.shape()), batch.labels, batch.ids};
  // Not Tensor::zeros: its OpenMP loop would start a second pool in the loader's thread.
  std::fill_n(out.images.data_as<float>(), images.size(), 0.f);
  const engine::RandomKey key{
      .seed = seed, .purpose = engine::Purpose::augment, .iteration = epoch};
  for (int64_t i = 0; i < n; ++i) {
    const auto [dy, dx, flip] = draw(augmentation, key, ids.data_as<int32_t>()[i]);
    const float* from = images.data_as<float>() + i * height * width * channels;
    float* to = out.images.data_as<float>() + i * height * width * channels;
    // Where the window and the image overlap, in the window's coordinates before the flip.
    const int64_t x0 = std::clamp<int64_t>(-dx, 0, width);
    const int64_t x1 = std::clamp<int64_t>(width - dx, 0, width);
    for (int64_t y = std::max<int64_t>(0, -dy); y < std::min(height, height - dy); ++y) {
      const int64_t row = ((y + dy) * width + dx) * channels, line = y * width * channels;
      if (!flip) {
        std::copy(from + row + x0 * channels, from + row + x1 * channels,
                  to + line + x0 * channels);
        continue;
      }
      for (int64_t x = x0; x < x1; ++x)
        for (int64_t c = 0; c < channels; ++c)
          to[line + (width - 1 - x) * channels + c] = from[row + x * channels + c];
    }
  }
  return out;
}

}  // namespace moat::data
