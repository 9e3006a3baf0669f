#include "data/synthetic.h"

#include <algorithm>

#include "engine/random.h"

namespace moat::data {

using engine::Dtype;
using engine::require;
using engine::Tensor;
using engine::text;

namespace {
constexpr int kGrid = 4;
constexpr double kGridAmplitude = 40, kNoiseAmplitude = 80;  // in 1/255, around 127.5
constexpr int32_t kSplitStride = 1 << 28;
constexpr int64_t kRowsAtOnce = 256;

Tensor numbers(int64_t from, int64_t to) {
  Tensor out = Tensor::empty({to - from}, Dtype::i32);
  for (int64_t i = from; i < to; ++i) out.data_as<int32_t>()[i - from] = static_cast<int32_t>(i);
  return out;
}
}  // namespace

ImageSet synthetic(const Synthetic& shape, Split split) {
  const auto [rows, height, width, channels, classes, seed] = shape;
  require(
      rows >= 0 && rows <= kSplitStride && height > 0 && width > 0 && channels > 0 && classes > 0,
      [&] {
        return text("synthetic: rows must be 0 to ", kSplitStride,
                    ", height, width, channels and classes positive, got ", shape.rows, ", ",
                    shape.height, "x", shape.width, "x", shape.channels, ", ", shape.classes);
      });
  ImageSet out{
      .height = height, .width = width, .channels = channels, .name = "synthetic", .split = split};
  for (int c = 0; c < classes; ++c) out.class_names.push_back(text("class ", c));

  const Tensor grids = random_uniform({classes, kGrid, kGrid, channels}, numbers(0, classes),
                                      {.seed = seed, .purpose = engine::Purpose::synthesise},
                                      -kGridAmplitude, kGridAmplitude);
  const int64_t first_id = int64_t{static_cast<int>(split)} * kSplitStride;
  std::vector<uint8_t> pixels(static_cast<size_t>(rows * out.image_bytes()));
  for (int64_t from = 0; from < rows; from += kRowsAtOnce) {
    const int64_t to = std::min(rows, from + kRowsAtOnce);
    const Tensor noise = random_uniform(
        {to - from, height, width, channels}, numbers(first_id + from, first_id + to),
        {.seed = seed, .purpose = engine::Purpose::synthesise, .stream = 1}, -kNoiseAmplitude,
        kNoiseAmplitude);
    const float* n = noise.data_as<float>();
    uint8_t* pixel = pixels.data() + from * out.image_bytes();
    for (int64_t i = from; i < to; ++i) {
      const float* grid = grids.data_as<float>() + (i % classes) * kGrid * kGrid * channels;
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
          const int block = (y * kGrid / height) * kGrid + x * kGrid / width;
          for (int c = 0; c < channels; ++c)
            *pixel++ = static_cast<uint8_t>(128 + grid[block * channels + c] + *n++);
        }
      out.labels.push_back(static_cast<int32_t>(i % classes));
      out.ids.push_back(static_cast<int32_t>(first_id + i));
    }
  }
  out.pixels = std::move(pixels);
  return out;
}

}  // namespace moat::data
