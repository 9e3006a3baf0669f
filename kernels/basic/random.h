#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

enum class Distribution : uint8_t {
  uniform,  // p + (q - p) u, u in [0, 1) with 24 bits
  normal,   // p + q z
};

// y[i, pixel, channel] = the draw with Philox key `seed` and counter
//   (element / 4, samples[i], iteration, purpose << 24 | stream), lane element % 4,
// element = channel · pixels + pixel: NHWC memory, numbered in (C, H, W) order. Lane l of a block
// is one uniform; lanes (0, 1) and (2, 3) are two pairs of normals (normal_pair() in philox.h).
// Draws are made in float64 and rounded once, so every dtype holds the same numbers; rounding can
// reach q.
struct Random {
  const int32_t* samples;  // [rows]
  void* y;                 // [rows, pixels, channels]
  int rows;
  int64_t pixels;
  int channels;
  uint64_t seed;
  uint32_t iteration, purpose, stream;  // purpose < 2^8, stream < 2^24
  Distribution distribution;
  double p, q;
  Dtype dtype;
};
Status random(Cpu, const Random&);
Status random(Cuda, const Random&);

}  // namespace moat::kernels
