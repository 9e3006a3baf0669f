#pragma once

// What a query of the Square attack draws for one image, shared by both targets and both norms.
// Integers alone.

#include "kernels/basic/philox.h"

namespace moat::kernels {

// Draws come from Philox with key `seed` and counter (element / 4, id, iteration,
// purpose << 24 | stream), word element % 4.
struct SquareKey {
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24

  constexpr bool is_valid() const { return purpose < 1u << 8 && stream < 1u << 24; }
  constexpr PhiloxBlock block(uint32_t number, int32_t id) const {
    return philox({number, static_cast<uint32_t>(id), iteration, purpose << 24 | stream}, seed);
  }
};

struct Window {
  int top, left, side;

  constexpr bool holds(int row, int column) const {
    return row >= top && row < top + side && column >= left && column < left + side;
  }
};

// Elements 0 and 1 place the first window, 2 and 3 the second, uniform over all places within the
// image, the last one too: bits · (height - side + 1) / 2^32, rounded down. The highest bit of
// element 4 transposes.
struct SquareDraw {
  Window first, second;
  bool transposed;
};
constexpr SquareDraw square_draw(const SquareKey& key, int32_t id, int side, int height,
                                 int width) {
  const auto place = [&](uint32_t bits, int extent) {
    return static_cast<int>(uniform_below(bits, static_cast<uint64_t>(extent - side) + 1));
  };
  const PhiloxBlock bits = key.block(0, id);
  return {.first = {place(bits[0], height), place(bits[1], width), side},
          .second = {place(bits[2], height), place(bits[3], width), side},
          .transposed = key.block(1, id)[0] >> 31 != 0};
}

// The signs of an image's channels: the highest bit of element 8 + channel, set for plus.
class SquareSigns {
 public:
  constexpr SquareSigns(const SquareKey& key, int32_t id) : key_(key), id_(id) {}

  constexpr bool is_plus(int channel) {
    const auto four = static_cast<uint32_t>(channel) / 4;
    if (four != four_ || !drawn_) {
      const PhiloxBlock bits = key_.block(2 + four, id_);
      signs_ = bits[0] >> 31 | bits[1] >> 31 << 1 | bits[2] >> 31 << 2 | bits[3] >> 31 << 3;
      four_ = four;
      drawn_ = true;
    }
    return (signs_ >> (static_cast<uint32_t>(channel) % 4) & 1) != 0;
  }

 private:
  SquareKey key_;
  int32_t id_;
  uint32_t four_ = 0, signs_ = 0;  // channels 4 · four_ + (0 … 3)
  bool drawn_ = false;
};

}  // namespace moat::kernels
