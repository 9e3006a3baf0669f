#pragma once

#include "data/image_set.h"

namespace moat::data {

struct Synthetic {
  int64_t rows = 1024;  // of each split
  int height = 32, width = 32, channels = 3, classes = 10;
  uint64_t seed = 0;
};

// Images to measure and test with, learnable by a linear model: each class is a random 4x4 grid of
// coloured blocks around mid-gray, each sample adds uniform noise of twice the grid's amplitude.
// Row i has class i mod classes; no sample of one split is in another (ids tell them apart).
ImageSet synthetic(const Synthetic& shape, Split split = Split::train);

}  // namespace moat::data
