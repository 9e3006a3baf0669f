#pragma once

#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/vision/augment.h"

namespace moat::engine {

using kernels::Flip;

// What happens to one image; the default is nothing.
struct Augmentation {
  int crop_padding = 0;  // p: a window of the image's size out of the image with p zeros around it,
                         // or a translation by at most p pixels
  Flip flip = Flip::none;   // horizontal: with probability 1/2
  int cutout = 0;           // side of a square that is erased, in pixels
  Tensor cutout_fill = {};  // float32 [channels], what the square holds; undefined: zeros
};

// Pixels from bytes, float32 like `images`: uint8 [n, height, width, channels] / max_value, with
// the augmentation and in the draws of kernels/vision/augment.h, by `key` for the samples ids,
// int32 [n]. On a CPU it runs on the calling thread alone.
Tensor augment(const Tensor& images, const Tensor& ids, int max_value, const Augmentation& how,
               const RandomKey& key);

// How images are mixed in pairs: alpha of mixup's and of CutMix' Beta(alpha, alpha), 0: not in this
// way. With both each image goes either way with probability 1/2.
struct Mixing {
  double mixup = 0, cutmix = 0;
  bool is_on() const { return mixup != 0 || cutmix != 0; }
};

struct MixedImages {
  Tensor images;        // float32 [n, height, width, channels]
  Tensor labels;        // int32 [n]: of the image with the larger share
  Tensor other_labels;  // int32 [n]: of the other one
  Tensor weight;        // float32 [n]: the share of `labels`, from 1/2 to 1
};

// Each image of float32 [n, height, width, channels] mixed with the one behind it, the last with
// the first (kernels/vision/mix_images.h), by draws of `key` for the samples ids, int32 [n]; labels
// are int32 [n]. Not differentiable. On a CPU it runs on the calling thread alone.
MixedImages mix_images(const Tensor& images, const Tensor& labels, const Tensor& ids,
                       const Mixing& how, const RandomKey& key);

}  // namespace moat::engine
