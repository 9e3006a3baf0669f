#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Auto-PGD's memory of each image (Croce & Hein 2020, algorithm 1), after a look at one more point:
//   rises += loss > last_loss                          last_loss = loss
//   best_loss, best_points, best_gradient = loss, points, gradient      where loss > best_loss
// and at a checkpoint, `window` looks after the one before (0: this look is none),
//   halve = rises <= rho · window, or !halved and best_loss <= checked_loss
//   step /= 2, points, gradient = best_points, best_gradient            where halve
//   halved = halve, checked_loss = best_loss, rises = 0
// Losses are compared in the order of the looks, whatever points were jumped to. A NaN loss is no
// rise and replaces nothing; any number replaces a NaN best_loss.
struct ApgdProgress {
  const float* loss;  // [n], of points
  // All below: in place.
  float *points, *gradient;            // [n, pixels]
  float *best_points, *best_gradient;  // [n, pixels]
  float* best_loss;                    // [n]
  float* last_loss;                    // [n]
  float* checked_loss;                 // [n]
  int32_t* rises;                      // [n], since the last checkpoint
  int32_t* halved;                     // [n], whether the last checkpoint did: 0 or 1
  double* step;                        // [n]
  int n;
  int64_t pixels;
  int window;
  double rho;
};
Status apgd_progress(Cpu, const ApgdProgress&);
Status apgd_progress(Cuda, const ApgdProgress&);

}  // namespace moat::kernels
