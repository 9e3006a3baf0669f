#pragma once

#include <string>
#include <vector>

#include "kernels/vision/conv2d.h"

namespace moat::bench {

// A convolution of a network, of images that experts have equal shares of.
struct ConvShape {
  std::string name;
  int images, experts;
  kernels::Conv2dGeometry geometry;  // float32; channels of one expert
  int divisor = 1;                   // how many times fewer images than in the network's batch

  double flops() const;
  std::string scale() const;  // "1/64 images"; "full"
};

// The convolutions of ResNet-18 for images of 32x32, 512 of them, and of MoE-ResNet-18 (two experts
// of half the width), each once.
std::vector<ConvShape> conv_shapes();

// Halves the images until the shape needs at most so many operations.
ConvShape within(ConvShape shape, double most_flops);

}  // namespace moat::bench
