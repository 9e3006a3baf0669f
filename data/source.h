#pragma once

#include <functional>

#include "data/image_set.h"

namespace moat::data {

// A split whose pixels may still lie in other files.
struct Source {
  ImageSet set;  // without pixels where `read` brings them
  // Writes the pixels of the rows from … to - 1; empty: they are in the set.
  std::function<void(int64_t from, int64_t to, uint8_t* pixels)> read = {};
};

// All of it in memory. Throws where this machine has less memory than the pixels need.
ImageSet loaded(Source source);

}  // namespace moat::data
