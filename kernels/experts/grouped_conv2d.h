#pragma once

#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// Convolution of a batch sorted by expert: images offsets[e] .. offsets[e + 1] meet expert e's
// filters, and `geometry` describes one expert, c_out being its width. Offsets are on the host,
// start at 0 and never fall. A segment may be empty.

struct GroupedConv2d {
  const void* x;                      // [n, height, width, c_in], n = offsets[experts]
  const void* filters;                // KRSC bank [experts · c_out, r, s, c_in], or nullptr
  const void* const* expert_filters;  // without a bank: one per expert, in `form`; on the host
  const void* const* biases;          // on the host, one [c_out] per expert, or nullptr
  const void* residual;               // like y or nullptr
  void* y;                            // [n, h', w', c_out]
  const int* offsets;                 // [experts + 1]
  int experts;
  Conv2dGeometry geometry;
  FilterForm form;
  ConvActivation activation;
};
size_t grouped_conv2d_workspace(Cpu, const GroupedConv2d&);
size_t grouped_conv2d_workspace(Cuda, const GroupedConv2d&);
Status grouped_conv2d(Cpu, const GroupedConv2d&);
Status grouped_conv2d(Cuda, const GroupedConv2d&);

struct GroupedConv2dInputGrad {
  const void* d_y;                    // [n, h', w', c_out]
  const void* filters;                // KRSC bank, or nullptr
  const void* const* expert_filters;  // without a bank: one per expert, in `form`
  void* d_x;                          // [n, height, width, c_in]
  const int* offsets;
  int experts;
  Conv2dGeometry geometry;
  FilterForm form;
};
size_t grouped_conv2d_input_grad_workspace(Cpu, const GroupedConv2dInputGrad&);
size_t grouped_conv2d_input_grad_workspace(Cuda, const GroupedConv2dInputGrad&);
Status grouped_conv2d_input_grad(Cpu, const GroupedConv2dInputGrad&);
Status grouped_conv2d_input_grad(Cuda, const GroupedConv2dInputGrad&);

// Zeros for an expert with an empty segment.
struct GroupedConv2dWeightGrad {
  const void* x;    // [n, height, width, c_in]
  const void* d_y;  // [n, h', w', c_out]
  void* d_filters;  // KRSC bank
  const int* offsets;
  int experts;
  Conv2dGeometry geometry;
};
size_t grouped_conv2d_weight_grad_workspace(Cpu, const GroupedConv2dWeightGrad&);
size_t grouped_conv2d_weight_grad_workspace(Cuda, const GroupedConv2dWeightGrad&);
Status grouped_conv2d_weight_grad(Cpu, const GroupedConv2dWeightGrad&);
Status grouped_conv2d_weight_grad(Cuda, const GroupedConv2dWeightGrad&);

}  // namespace moat::kernels
