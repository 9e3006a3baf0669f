#pragma once

#include "kernels/vision/conv2d.h"

// float64 convolutions on CUDA, by their definition: a thread per output value sums its terms in a
// fixed order. What gradient checks on a GPU run; the geometry is valid and the filter is KRSC.
namespace moat::kernels::f64 {

Status run(Cuda, const Conv2d&);
Status run(Cuda, const Conv2dInputGrad&);
Status run(Cuda, const Conv2dWeightGrad&);

}  // namespace moat::kernels::f64
