#pragma once

#include "kernels/target.h"
#include "kernels/update/square_draw.h"

namespace moat::kernels {

// A query of the Square attack, L2 (Andriushchenko et al. 2020, algorithm 3): the perturbation
// within two windows W1 and W2 of `side` pixels is gathered in W1, there bent towards a bump, and
// takes what is left of the radius with it. For point i with image r = rows[i], in each channel k
// of C:
//   delta = best[r] - center[r], N = ‖delta‖, n1 = ‖delta_k on W1‖, nW = ‖delta_k on W1 ∪ W2‖
//   new = ± bump + delta_k on W1 / (n1 + 1e-12)
//   new *= sqrt(max(eps² - N², 0) / C + nW²) / (‖new‖ + 1e-12)
//   delta_k = new on W1, 0 on the rest of W2
// and y = center + eps · delta / ‖delta‖, center where delta = 0. The bump is transposed by one
// draw for all channels (square_draw.h; draws of ids[i]), its sign is the channel's. y may lie
// outside of the box, and of the ball by roundings: the caller projects it. Sums run in float64. A
// row outside [0, images) is bad_args, and nothing is then written; on CUDA the nearest image takes
// its place.
struct SquareL2 {
  const float* best;            // [images, height, width, channels]
  const float* center;          // [images, height, width, channels]
  const float* bump;            // [side, side]
  const int32_t* rows;          // [n]
  const int32_t* ids;           // [n]
  float* y;                     // [n, height, width, channels]
  int n, images;                // images > 0 where n > 0
  int height, width, channels;  // an image has less than 2^31 values
  int side;                     // 0 … min(height, width) pixels
  double eps;                   // pixel units, finite, at least 0
  SquareKey key;
};
Status square_l2(Cpu, const SquareL2&);
Status square_l2(Cuda, const SquareL2&);

constexpr bool is_valid(const SquareL2& a) {
  if (a.n < 0 || a.images < 0 || a.height < 0 || a.width < 0 || a.channels < 0) return false;
  const int64_t plane = int64_t{a.height} * a.width;
  return (a.n == 0 || a.images > 0) && plane < int64_t{1} << 31 &&
         plane * a.channels < int64_t{1} << 31 && a.side >= 0 && a.side <= a.height &&
         a.side <= a.width && a.eps >= 0 && a.eps < 1e300 && a.key.is_valid();
}

}  // namespace moat::kernels
