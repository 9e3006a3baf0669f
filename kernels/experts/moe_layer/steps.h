#pragma once

// What the forward and the backward pass of moe_layer share, on both targets.

#include <cstdint>

#include "kernels/experts/moe_layer.h"

namespace moat::kernels::layer {

// Weights, biases and their gradients are float32 for bfloat16.
constexpr Dtype master(Dtype dtype) { return dtype == Dtype::bf16 ? Dtype::f32 : dtype; }

constexpr size_t bytes_of(int64_t rows, int64_t columns, Dtype dtype) {
  return static_cast<size_t>(rows) * static_cast<size_t>(columns) * size_of(dtype);
}

template <class Layer>
int rows_of(const Layer& a) {
  return a.tokens * a.k;
}
template <class Layer>
int hidden_of(const Layer& a) {
  return activated_width(a.activation, a.inner);
}

inline bool is_floating(Dtype dtype) {
  return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::bf16;
}

template <class Layer>
bool has_valid_extents(const Layer& a) {
  return a.tokens >= 0 && a.k >= 1 && a.k <= a.num_experts && a.width >= 0 && a.inner >= 0 &&
         a.out_width >= 0 && int64_t{a.tokens} * a.k <= INT32_MAX && is_floating(a.dtype) &&
         is_floating(a.gate_dtype) && master(a.gate_dtype) == master(a.dtype) &&
         (a.activation != ExpertActivation::swiglu || a.inner % 2 == 0);
}

// The target with other scratch memory.
template <class On>
On with_workspace(On on, void* workspace, size_t bytes) {
  on.workspace = workspace;
  on.workspace_bytes = bytes;
  return on;
}

// Runs steps in turn until one fails.
template <class... Steps>
Status in_order(Steps&&... steps) {
  Status status = Status::ok;
  static_cast<void>((((status = steps()) == Status::ok) && ...));
  return status;
}

// Cuts a workspace into pieces of 256 bytes; one of nullptr measures.
class Cut {
 public:
  explicit Cut(void* workspace) : base_(static_cast<char*>(workspace)) {}
  void* take(size_t bytes) {
    const size_t at = used_;
    used_ += (bytes + 255) / 256 * 256;
    return base_ ? base_ + at : nullptr;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace moat::kernels::layer
