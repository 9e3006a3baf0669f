#include "data/augment.h"

namespace moat::data {

namespace {
// `stream` tells what is drawn for one image from what is drawn for a pair.
engine::RandomKey key_of(uint64_t seed, uint32_t epoch, uint32_t stream) {
  return {.seed = seed, .purpose = engine::Purpose::augment, .iteration = epoch, .stream = stream};
}
}  // namespace

Batch augmented(const Batch& bytes, int max_value, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch) {
  return {engine::augment(bytes.images, bytes.ids, max_value, augmentation, key_of(seed, epoch, 0)),
          bytes.labels, bytes.ids};
}

Batch mixed(const Batch& pixels, const Mixing& mixing, uint64_t seed, uint32_t epoch) {
  if (!mixing.is_on()) return pixels;
  const engine::MixedImages mix =
      engine::mix_images(pixels.images, pixels.labels, pixels.ids, mixing, key_of(seed, epoch, 1));
  return {mix.images, mix.labels, pixels.ids, mix.other_labels, mix.weight};
}

}  // namespace moat::data
