#include "data/augment.h"

namespace moat::data {

Batch augmented(const Batch& bytes, int max_value, const Augmentation& augmentation, uint64_t seed,
                uint32_t epoch) {
  const engine::RandomKey key{
      .seed = seed, .purpose = engine::Purpose::augment, .iteration = epoch};
  return {engine::crop_flip(bytes.images, bytes.ids, max_value, augmentation.crop_padding,
                            augmentation.flip, key),
          bytes.labels, bytes.ids};
}

}  // namespace moat::data
