#pragma once

#include "kernels/vision/conv2d.h"
#include "kernels/workspace_pieces.h"

namespace moat::kernels {

// Convolution of a batch sorted by expert: images offsets[e] .. offsets[e + 1] meet expert e's
// filter, and `geometry` describes one expert, c_out being its width. Offsets lie in the target's
// memory, start at 0, never fall and end at n; a segment may be empty. On CUDA, where they are not
// looked at before a launch, they are pulled into [0, n], and images behind the last segment become
// zeros. Without offsets (nullptr) all images meet one filter; experts is 1 then. A bias of
// bfloat16 images is float32, as master filters are. On CUDA relu keeps NaN, the padding takes part
// as zeros (which an infinite filter turns into NaN), and Context::precision() says how float32 is
// multiplied.
//
// Filters stand one after another: KRSC, a bank [experts · c_out, r, s, c_in], or packed for the
// use, each in packed_stride() bytes.
inline size_t packed_stride(size_t packed_bytes) { return in_lines(packed_bytes); }

struct GroupedConv2d {
  const void* x;           // [n, height, width, c_in]
  const void* filters;     // one per expert, in `form`
  const void* bias;        // [experts, c_out] in filter_dtype(), or nullptr
  const void* residual;    // like y or nullptr
  void* y;                 // [n, h', w', c_out]
  const int32_t* offsets;  // [experts + 1] or nullptr
  int n, experts;
  Conv2dGeometry geometry;
  FilterForm form;
  ConvActivation activation;
};
size_t grouped_conv2d_workspace(Cpu, const GroupedConv2d&);
size_t grouped_conv2d_workspace(Cuda, const GroupedConv2d&);
Status grouped_conv2d(Cpu, const GroupedConv2d&);
Status grouped_conv2d(Cuda, const GroupedConv2d&);

struct GroupedConv2dInputGrad {
  const void* d_y;         // [n, h', w', c_out]
  const void* filters;     // one per expert, in `form`
  const void* added;       // as in Conv2dInputGrad
  const void* mask;        // likewise
  void* d_x;               // [n, height, width, c_in]
  const int32_t* offsets;  // [experts + 1] or nullptr
  int n, experts;
  Conv2dGeometry geometry;
  FilterForm form;
};
size_t grouped_conv2d_input_grad_workspace(Cpu, const GroupedConv2dInputGrad&);
size_t grouped_conv2d_input_grad_workspace(Cuda, const GroupedConv2dInputGrad&);
Status grouped_conv2d_input_grad(Cpu, const GroupedConv2dInputGrad&);
Status grouped_conv2d_input_grad(Cuda, const GroupedConv2dInputGrad&);

// Zeros for an expert with an empty segment.
struct GroupedConv2dWeightGrad {
  const void* x;           // [n, height, width, c_in]
  const void* d_y;         // [n, h', w', c_out]
  void* d_filters;         // KRSC bank in filter_dtype()
  const int32_t* offsets;  // [experts + 1] or nullptr
  int n, experts;
  Conv2dGeometry geometry;
};
size_t grouped_conv2d_weight_grad_workspace(Cpu, const GroupedConv2dWeightGrad&);
size_t grouped_conv2d_weight_grad_workspace(Cuda, const GroupedConv2dWeightGrad&);
Status grouped_conv2d_weight_grad(Cpu, const GroupedConv2dWeightGrad&);
Status grouped_conv2d_weight_grad(Cuda, const GroupedConv2dWeightGrad&);

}  // namespace moat::kernels
