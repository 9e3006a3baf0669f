#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// What an evaluation attack remembers of each image of a batch: the first iterate that fooled the
// model, else the one with the largest loss. Point i of an iterate belongs to image r = rows[i];
// unless r was fooled before,
//   fooled_at[r] = number                        where predicted[i] != labels[r]
//   best_loss[r] = loss[i], worst[r] = points[i] there, and where loss[i] > best_loss[r]
// so that a NaN loss replaces nothing unless it comes with a wrong prediction. Rows are distinct.
// One outside [0, images) is bad_args, and nothing is then written; on CUDA it is ignored.
struct KeepWorst {
  const float* points;       // [n, pixels]
  const int32_t* rows;       // [n]
  const int32_t* predicted;  // [n]
  const float* loss;         // [n]
  const int32_t* labels;     // [images]
  int32_t* fooled_at;        // [images], in place; -1: not yet
  float* best_loss;          // [images], in place
  float* worst;              // [images, pixels], in place
  int32_t* resisting;        // [1]: how many of the n images are not fooled after this
  int n, images;
  int64_t pixels;
  int32_t number;  // of this iterate, >= 0
};
Status keep_worst(Cpu, const KeepWorst&);
Status keep_worst(Cuda, const KeepWorst&);

}  // namespace moat::kernels
