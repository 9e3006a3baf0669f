#pragma once

// What augment checks and draws before it moves anything, shared by both targets, which compile it
// without contraction: the same bits.

#include <cmath>
#include <limits>

#include "kernels/basic/philox.h"
#include "kernels/vision/augment.h"

namespace moat::kernels {

constexpr bool is_valid(const Augment& a) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (a.n < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  if (a.y_height < 0 || a.y_width < 0 || a.y_height > a.height || a.y_width > a.width) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  if (plane > kMost || plane * a.channels > kMost) return false;
  if (a.padding < 0 || (a.crop != Crop::window && a.padding > 0)) return false;
  if (a.padding > kMost - (a.height - a.y_height) || a.padding > kMost - (a.width - a.y_width))
    return false;  // a window's place is an int
  if (a.crop == Crop::area && !(a.height <= kLongestResampled && a.width <= kLongestResampled &&
                                a.least_area > 0 && a.least_area <= 1))
    return false;
  return a.max_value >= 1 && a.max_value <= 255 && a.crop <= Crop::area &&
         (a.flip == Flip::none || a.flip == Flip::horizontal) && a.cutout >= 0 &&
         a.purpose < 1u << 8 && a.stream < 1u << 24;
}

struct AugmentDraw {
  int dy, dx;         // where the crop begins
  int height, width;  // of the crop
  bool flip;
  uint32_t side, top, left;  // of the square, modulo 2^32: it may begin before the image

  // Whether pixel (r, s) of the result lies in the square.
  constexpr bool cuts(uint32_t r, uint32_t s) const { return r - top < side && s - left < side; }
};

// Draws 4k … 4k + 3 of the image.
constexpr PhiloxBlock draws_of(const Augment& a, int32_t id, uint32_t k) {
  return philox({k, static_cast<uint32_t>(id), a.iteration, a.purpose << 24 | a.stream}, a.seed);
}

// Of Crop::centre and Crop::window.
constexpr AugmentDraw window_of(const Augment& a, int32_t id) {
  const PhiloxBlock bits = draws_of(a, id, 0);
  AugmentDraw draw{.dy = centred(a.height, a.y_height),
                   .dx = centred(a.width, a.y_width),
                   .height = a.y_height,
                   .width = a.y_width,
                   .flip = a.flip == Flip::horizontal && bits[2] >> 31 != 0,
                   .side = static_cast<uint32_t>(a.cutout),
                   .top = 0,
                   .left = 0};
  if (a.crop == Crop::window) {
    const auto place = [&](uint32_t word, int extent, int side) {
      const uint64_t places = static_cast<uint64_t>(extent - side) + 2 * uint64_t(a.padding) + 1;
      return static_cast<int>(uniform_below(word, places) - a.padding);
    };
    draw.dy = place(bits[0], a.height, a.y_height), draw.dx = place(bits[1], a.width, a.y_width);
  }
  if (a.cutout > 0) {
    const PhiloxBlock centre = draws_of(a, id, 1);
    const auto first = [&](uint32_t word, int extent) {
      return static_cast<uint32_t>(uniform_below(word, static_cast<uint64_t>(extent)) -
                                   a.cutout / 2);
    };
    draw.top = first(centre[0], a.y_height);
    draw.left = first(centre[1], a.y_width);
  }
  return draw;
}

// A whole number from 0.5 up. A template, because std::sqrt would keep a plain function from being
// constexpr, which devices call.
template <class Real>
constexpr int rounded_sqrt(Real square) {
  return static_cast<int>(std::sqrt(square) + Real(0.5));
}

// Of Crop::area.
template <class Real = double>
constexpr AugmentDraw box_of(const Augment& a, int32_t id) {
  constexpr Real kWidest = Real(4) / 3;
  constexpr Real kLogOfShapes = 0.5753641449035617;  // ln(16/9): of the widest to the highest
  constexpr uint32_t kTries = 10, kFirstDraws = 2;
  AugmentDraw draw = window_of(a, id);
  const Real image = static_cast<Real>(a.height) * a.width;
  for (uint32_t k = 0; k < kTries; ++k) {
    const PhiloxBlock bits = draws_of(a, id, kFirstDraws + k);
    const Real area = image * (a.least_area + (1 - a.least_area) * unit_uniform(bits[0])),
               shape = kWidest * exact_exp(-kLogOfShapes * unit_uniform(bits[1]));
    const int height = rounded_sqrt(area / shape), width = rounded_sqrt(area * shape);
    if (height < 1 || width < 1 || height > a.height || width > a.width) continue;
    const auto place = [](uint32_t word, int extent, int side) {
      return static_cast<int>(uniform_below(word, static_cast<uint64_t>(extent - side + 1)));
    };
    draw.height = height, draw.width = width;
    draw.dy = place(bits[2], a.height, height), draw.dx = place(bits[3], a.width, width);
    return draw;
  }
  const auto least = [](int one, Real other) {
    return other < one ? static_cast<int>(other + Real(0.5)) : one;
  };
  draw.height = least(a.height, a.width * kWidest);
  draw.width = least(a.width, a.height * kWidest);
  draw.dy = centred(a.height, draw.height), draw.dx = centred(a.width, draw.width);
  return draw;
}

}  // namespace moat::kernels
