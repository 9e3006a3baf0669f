#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace moat::attacks {

// A batch under attack.
struct Victims {
  engine::Tensor images;     // float32 [n, h, w, c] in [0, 1], the centres of the balls
  engine::Tensor labels;     // int32 [n]
  engine::Tensor ids;        // int32 [n]: index in the data set, which random draws are keyed by
  engine::Tensor reference;  // clean logits [n, classes] for the KL loss; undefined otherwise
  // Of images mixed in pairs, for the cross-entropy; undefined otherwise: the second label, int32
  // [n], and the share of the first one, float32 [n].
  engine::Tensor other_labels = {}, weight = {};
  engine::Tensor targets = {};  // int32 [n], the class that a targeted loss aims at; or undefined
  engine::Tensor routes = {};   // int32 [n], for objectives that name them; undefined otherwise
  engine::Tensor start = {};    // like the images, for Start::given; undefined otherwise

  int64_t size() const { return images.dim(0); }
  Victims rows(const std::vector<int32_t>& index) const;
};

// `rows` (ascending, of `all`); on a GPU with as many of the other rows as make their number 2^k
// and at least 32, where there are enough: its convolution library compiles kernels for every
// number of images anew, and few images do not fill a GPU. Whoever calls ignores the others.
std::vector<int32_t> rounded_up(const std::vector<int32_t>& rows, int64_t all,
                                engine::Device device);

// int32 tensor of row numbers.
engine::Tensor index_of(const std::vector<int32_t>& rows, engine::Device device = {});

// Row i of the result: row i of `rows`, or where position[k] = i, row k of `instead`.
engine::Tensor replaced_rows(const engine::Tensor& rows, const engine::Tensor& instead,
                             const std::vector<int32_t>& position);

// [n] -> [n, 1, …] of the images' rank, to be broadcast over their pixels.
engine::Tensor per_image(const engine::Tensor& values, const engine::Tensor& images);
engine::Tensor per_image(const std::vector<float>& values, const engine::Tensor& images);

}  // namespace moat::attacks
