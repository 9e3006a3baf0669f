#pragma once

// What augment checks and draws before it moves anything, shared by both targets. Integers alone.

#include <limits>

#include "kernels/basic/philox.h"
#include "kernels/vision/augment.h"

namespace moat::kernels {

constexpr bool is_valid(const Augment& a) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (a.n < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  return plane <= kMost && plane * a.channels <= kMost && a.max_value >= 1 && a.padding >= 0 &&
         (a.flip == Flip::none || a.flip == Flip::horizontal) && a.cutout >= 0 &&
         a.purpose < 1u << 8 && a.stream < 1u << 24;
}

struct AugmentDraw {
  int dy, dx;  // of the window
  bool flip;
  uint32_t side, top, left;  // of the square, modulo 2^32: it may begin before the image

  // Whether pixel (r, s) of the result lies in the square.
  constexpr bool cuts(uint32_t r, uint32_t s) const { return r - top < side && s - left < side; }
};

constexpr AugmentDraw draw_of(const Augment& a, int32_t id) {
  const auto block = [&](uint32_t number) {
    return philox({number, static_cast<uint32_t>(id), a.iteration, a.purpose << 24 | a.stream},
                  a.seed);
  };
  const PhiloxBlock bits = block(0);
  const uint64_t windows = 2 * static_cast<uint64_t>(a.padding) + 1;
  AugmentDraw draw{.dy = static_cast<int>(uniform_below(bits[0], windows) - a.padding),
                   .dx = static_cast<int>(uniform_below(bits[1], windows) - a.padding),
                   .flip = a.flip == Flip::horizontal && bits[2] >> 31 != 0,
                   .side = static_cast<uint32_t>(a.cutout),
                   .top = 0,
                   .left = 0};
  if (a.cutout > 0) {
    const PhiloxBlock centre = block(1);
    const auto first = [&](uint32_t word, int extent) {
      return static_cast<uint32_t>(uniform_below(word, static_cast<uint64_t>(extent)) -
                                   a.cutout / 2);
    };
    draw.top = first(centre[0], a.height);
    draw.left = first(centre[1], a.width);
  }
  return draw;
}

}  // namespace moat::kernels
