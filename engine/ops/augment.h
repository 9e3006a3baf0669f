#pragma once

#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/vision/augment.h"

namespace moat::engine {

using kernels::centred;
using kernels::Crop;
using kernels::Flip;

// What happens to one image; the default is nothing.
struct Augmentation {
  int height = 0, width = 0;  // of the result, at most the image's; 0: the image's
  Crop crop = Crop::centre;   // which part of the image that is
  int crop_padding = 0;       // p, of a window: it lies in the image with p zeros around it, which
                              // is a translation by at most p pixels where it is as large as the
                              // image
  double least_area = 1;      // of Crop::area: the smallest share of the image's area
  Flip flip = Flip::none;     // horizontal: with probability 1/2
  int cutout = 0;             // side of a square that is erased, in pixels
  Tensor cutout_fill = {};    // float32 [channels], what the square holds; undefined: zeros
};

// Pixels from bytes, float32 [n, how.height, how.width, channels] of uint8 [n, height, width,
// channels] / max_value, with the augmentation and in the draws of kernels/vision/augment.h, by
// `key` for the samples ids, int32 [n]. On a CPU it runs on the calling thread alone.
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
