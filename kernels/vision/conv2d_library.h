#pragma once

// float32 and bfloat16 convolutions by oneDNN's own primitives: the inside of conv2d.cpp, which has
// checked the arguments. Workspace sizes throw what oneDNN throws.

#include "kernels/vision/conv2d.h"

namespace moat::kernels::library {

size_t workspace(Cpu, const Conv2d&);
size_t workspace(Cpu, const Conv2dInputGrad&);
size_t workspace(Cpu, const Conv2dWeightGrad&);
size_t workspace(Cpu, const Conv2dPack&);
void run(Cpu, const Conv2d&);
void run(Cpu, const Conv2dInputGrad&);
void run(Cpu, const Conv2dWeightGrad&);
void run(Cpu, const Conv2dPack&);
size_t packed_bytes(Cpu, const Conv2dGeometry&, FilterUse);

}  // namespace moat::kernels::library
