#pragma once

// What crop_flip checks and draws before it moves anything, shared by both targets. Integers alone.

#include <limits>

#include "kernels/basic/philox.h"
#include "kernels/vision/crop_flip.h"

namespace moat::kernels {

constexpr bool is_valid(const CropFlip& a) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (a.n < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  return plane <= kMost && plane * a.channels <= kMost && a.max_value >= 1 && a.padding >= 0 &&
         (a.flip == Flip::none || a.flip == Flip::horizontal) && a.purpose < 1u << 8 &&
         a.stream < 1u << 24;
}

struct CropFlipDraw {
  int dy, dx;  // of the window
  bool flip;
};

constexpr CropFlipDraw draw_of(const CropFlip& a, int32_t id) {
  const PhiloxBlock bits =
      philox({0, static_cast<uint32_t>(id), a.iteration, a.purpose << 24 | a.stream}, a.seed);
  const uint64_t windows = 2 * static_cast<uint64_t>(a.padding) + 1;
  const auto offset = [&](uint32_t word) {
    return static_cast<int>(static_cast<int64_t>(word * windows >> 32) - a.padding);
  };
  return {.dy = offset(bits[0]),
          .dx = offset(bits[1]),
          .flip = a.flip == Flip::horizontal && bits[2] >> 31 != 0};
}

}  // namespace moat::kernels
