#pragma once

#include "data/image_set.h"
#include "engine/random.h"
#include "models/settings.h"

namespace moat::tests {

// Images of random bytes of the size and classes that a model takes, all labelled 0; their ids are
// `first_id` and on.
inline data::ImageSet noise_set(const models::ClassifierSettings& s, int64_t n, uint64_t seed,
                                int32_t first_id = 0) {
  data::ImageSet set{.height = s.height,
                     .width = s.width,
                     .channels = s.channels,
                     .class_names = {},
                     .name = "noise",
                     .split = data::Split::test};
  for (int c = 0; c < s.classes; ++c) set.class_names.push_back(std::string(1, char('a' + c)));
  std::vector<uint8_t> pixels(static_cast<size_t>(n * set.image_bytes()));
  for (size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<uint8_t>(engine::random_bits({.seed = seed}, uint32_t(i)) >> 24);
  set.pixels = std::move(pixels);
  set.labels.assign(static_cast<size_t>(n), 0);
  for (int32_t i = 0; i < n; ++i) set.ids.push_back(first_id + i);
  return set;
}

}  // namespace moat::tests
