#pragma once

#include "kernels/vision/conv2d.h"

// Convolutions by cuDNN, behind conv2d.cu: float32 and bfloat16, valid geometries, n > 0. In the
// interpreter tests/simt/library/conv2d.cpp stands in for it.
namespace moat::kernels::cudnn {

enum class ConvUse { forward, input_grad, weight_grad };

// What runs behind the convolution: bias, residual and relu of a forward one, residual and mask of
// an input gradient.
struct ConvFusion {
  bool bias = false, residual = false, relu = false, mask = false;
  constexpr bool any() const { return bias || residual || relu || mask; }
  friend bool operator==(const ConvFusion&, const ConvFusion&) = default;
};

struct ConvProblem {
  Conv2dGeometry geometry;
  ConvUse use;
  ConvFusion behind;
  int n;
  int alignment;  // of every address, in bytes: 16, or less where a caller's is
};

// How the library will run a problem. It depends on the problem, the context's precision and the
// device alone.
struct ConvPlan {
  size_t workspace_bytes;
  bool fuses;            // what runs behind; else y comes without it
  Dtype d_filter_dtype;  // what a weight gradient comes in: f32, or bf16 for bfloat16 activations
};

struct ConvData {
  const void* input;               // x, or d_y for an input gradient
  const void* filter;              // KRSC in the activations' dtype; d_y for a weight gradient
  void* output;                    // y, d_x, or d_filter in d_filter_dtype
  const void* bias = nullptr;      // as in Conv2d, for a plan that fuses
  const void* residual = nullptr;  // likewise; added, of an input gradient
  const void* mask = nullptr;      // as in Conv2dInputGrad, likewise
};

Status plan(Cuda, const ConvProblem&, ConvPlan*);
Status run(Cuda, const ConvProblem&, const ConvData&);  // with the plan's workspace

}  // namespace moat::kernels::cudnn
