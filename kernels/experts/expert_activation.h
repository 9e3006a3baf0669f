#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// What an expert's hidden product passes through. gelu is the exact one (erf), gelu_tanh its usual
// approximation (Hendrycks & Gimpel 2016, section 2). swiglu takes pairs of columns, silu of the
// first half times the second (Shazeer 2020, equation 6): half as many come out.
enum class ExpertActivation { none, relu, gelu, gelu_tanh, swiglu };

constexpr int activated_width(ExpertActivation activation, int width) {
  return activation == ExpertActivation::swiglu ? width / 2 : width;
}

// y[r, :] = activation(pre[r, :]). NaN stays NaN. An odd width with swiglu is bad_args.
struct ApplyExpertActivation {
  const void* pre;  // [rows, width]
  void* y;          // [rows, activated_width]
  int rows, width;
  ExpertActivation activation;
  Dtype dtype;
};
Status expert_activation(Cpu, const ApplyExpertActivation&);
Status expert_activation(Cuda, const ApplyExpertActivation&);

// d_pre from d_y; the derivative of relu at 0 is 0.
struct ExpertActivationGrad {
  const void* d_y;  // [rows, activated_width]
  const void* pre;  // [rows, width]
  void* d_pre;      // [rows, width]
  int rows, width;
  ExpertActivation activation;
  Dtype dtype;
};
Status expert_activation_grad(Cpu, const ExpertActivationGrad&);
Status expert_activation_grad(Cuda, const ExpertActivationGrad&);

}  // namespace moat::kernels
