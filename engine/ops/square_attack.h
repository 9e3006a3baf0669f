#pragma once

#include "engine/random.h"
#include "engine/tensor.h"

namespace moat::engine {

// What a query of the Square attack looks at next, for the images rows [n], int32, of `best`
// float32 [images, height, width, channels]; by draws of `key` for the samples ids, int32 [n]
// (kernels/update/square_linf.h, square_l2.h). Not differentiable; float32 [n, height, width,
// channels]. `side` is that of the square in pixels, at most height and width.

// `low` and `high`, like `best`, are the ends of ball ∩ box.
Tensor square_linf(const Tensor& best, const Tensor& low, const Tensor& high, const Tensor& rows,
                   const Tensor& ids, int side, const RandomKey& key);

// `center` is like `best`, `bump` float32 [side, side] of norm 1. Not yet projected on ball ∩ box.
Tensor square_l2(const Tensor& best, const Tensor& center, const Tensor& bump, const Tensor& rows,
                 const Tensor& ids, double eps, const RandomKey& key);

}  // namespace moat::engine
