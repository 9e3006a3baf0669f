#pragma once

#include "kernels/target.h"
#include "kernels/update/square_draw.h"

namespace moat::kernels {

// A query of the Square attack, L∞ (Andriushchenko et al. 2020, algorithm 2): one square of the
// best point so far goes to a corner of ball ∩ box, in each channel to a side of its own. For point
// i with image r = rows[i]:
//   y[i, p, k] = high[r, p, k] or low[r, p, k]   where pixel p lies in the square, by channel k's
//   sign
//                best[r, p, k]                   elsewhere
// which is best ± 2 eps cut to [low, high] for a best point within. The draws (square_draw.h) are
// those of ids[i]. A row outside [0, images) is bad_args, and nothing is then written; on CUDA the
// nearest image takes its place.
struct SquareLinf {
  const float* best;            // [images, height, width, channels]
  const float *low, *high;      // [images, height, width, channels]: ball ∩ box, pixel by pixel
  const int32_t* rows;          // [n]
  const int32_t* ids;           // [n]
  float* y;                     // [n, height, width, channels]
  int n, images;                // images > 0 where n > 0
  int height, width, channels;  // an image has less than 2^31 values
  int side;                     // of the square, 0 … min(height, width) pixels
  SquareKey key;
};
Status square_linf(Cpu, const SquareLinf&);
Status square_linf(Cuda, const SquareLinf&);

constexpr bool is_valid(const SquareLinf& a) {
  if (a.n < 0 || a.images < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  return (a.n == 0 || a.images > 0) && plane < int64_t{1} << 31 &&
         plane * a.channels < int64_t{1} << 31 && a.side >= 0 && a.side <= a.height &&
         a.side <= a.width && a.key.is_valid();
}

}  // namespace moat::kernels
