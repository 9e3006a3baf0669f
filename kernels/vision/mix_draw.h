#pragma once

// What mix_images checks and draws before it moves anything, shared by both targets, which compile
// it without contraction: the same bits.

#include <cmath>
#include <limits>

#include "kernels/basic/philox.h"
#include "kernels/vision/mix_images.h"

namespace moat::kernels {

inline bool is_valid(const MixImages& a) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (a.n < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  return plane <= kMost && plane * a.channels <= kMost && std::isfinite(a.mixup) &&
         std::isfinite(a.cutmix) && a.mixup >= 0 && a.cutmix >= 0 && a.mixup + a.cutmix > 0 &&
         a.purpose < 1u << 8 && a.stream < 1u << 24;
}

struct MixDraw {
  float inside;                  // the image's own part of a value in the box
  int top, bottom, left, right;  // the box: rows [top, bottom), columns [left, right)
  float share;                   // of the whole image
};

// A template, because symmetric_beta() is one: devices call it.
template <class Real = double>
constexpr MixDraw draw_of(const MixImages& a, int32_t id) {
  const auto block = [&](uint32_t number) {
    return philox({number, static_cast<uint32_t>(id), a.iteration, a.purpose << 24 | a.stream},
                  a.seed);
  };
  const PhiloxBlock bits = block(0);
  const bool is_cutmix = a.cutmix > 0 && (a.mixup <= 0 || bits[0] >> 31 != 0);
  const Real lambda = symmetric_beta<Real>(is_cutmix ? a.cutmix : a.mixup, bits[1], bits[2]);
  if (!is_cutmix) {
    const float share = static_cast<float>(lambda);
    return {share, 0, a.height, 0, a.width, share};
  }
  const Real part = std::sqrt(1 - lambda);
  const auto place = [&](uint32_t bits_of_centre, int extent, int& first, int& last) {
    const auto side = static_cast<int>(extent * part),
               centre = static_cast<int>(uniform_below(bits_of_centre, uint64_t(extent))),
               from = centre - side / 2;
    first = from < 0 ? 0 : from;
    last = from + side < extent ? from + side : extent;
  };
  const PhiloxBlock centre = block(1);
  MixDraw draw{};
  place(centre[0], a.height, draw.top, draw.bottom);
  place(centre[1], a.width, draw.left, draw.right);
  const Real image = static_cast<Real>(a.height) * a.width,
             box = static_cast<Real>(draw.bottom - draw.top) * (draw.right - draw.left);
  draw.share = box > 0 ? static_cast<float>((image - box) / image) : 1.0f;
  return draw;
}

// The labels of two images of which the first one has this share, the larger one first.
struct MixedLabel {
  int32_t label, other;
  float weight;
};
constexpr MixedLabel mixed_label(float share, int32_t own, int32_t next) {
  if (share >= 0.5f) return {own, next, share};
  return {next, own, 1.0f - share};
}

}  // namespace moat::kernels
