#pragma once

// float32 convolutions as products of unrolled patches with the filter, by oneDNN's sgemm: the
// inside of conv2d.cpp, which has checked the arguments. Taps outside the image are not multiplied:
// on 4x4 images with 3x3 filters that is 31 % of the work, on 2x2 images 56 %.

#include "kernels/vision/conv2d.h"

namespace moat::kernels::products {

size_t workspace(Cpu, const Conv2d&);
size_t workspace(Cpu, const Conv2dInputGrad&);
size_t workspace(Cpu, const Conv2dWeightGrad&);
size_t workspace(Cpu, const Conv2dPack&);
void run(Cpu, const Conv2d&);
void run(Cpu, const Conv2dInputGrad&);
void run(Cpu, const Conv2dWeightGrad&);
void run(Cpu, const Conv2dPack&);
size_t packed_bytes(Cpu, const Conv2dGeometry&, FilterUse);

}  // namespace moat::kernels::products
