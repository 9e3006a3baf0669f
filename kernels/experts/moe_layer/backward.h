#pragma once

#include <algorithm>

#include "kernels/experts/moe_layer/steps.h"
#include "kernels/routing/combine_rows.h"

namespace moat::kernels::layer {

// moe_layer_grad's kernels and the workspace they share. Three buffers of R rows take turns:
//   wide    d_rows, then the gradient of the gathered tokens
//   hidden  what the second product read, computed again from pre; then its gradient
//   d_pre
template <class On>
class Backward {
 public:
  Backward(On on, const MoeLayerGrad& a) : on_(on), a_(a) {
    Cut cut(on.workspace);
    d_weights_ = a.d_logits ? cut.take(bytes_of(a.tokens, a.k, master(a.dtype))) : nullptr;
    if (is_through_rows()) {
      wide_ = cut.take(bytes_of(rows_of(a), std::max(a.width, a.out_width), a.dtype));
      hidden_ = cut.take(bytes_of(rows_of(a), hidden_of(a), a.dtype));
      if (is_through_hidden()) d_pre_ = cut.take(bytes_of(rows_of(a), a.inner, a.dtype));
    }
    used_ = cut.used();
  }

  size_t workspace() const {
    size_t scratch = 0;
    if (a_.d_w_out) scratch = std::max(scratch, grouped_gemm_weight_grad_workspace(on_, w_out()));
    if (is_through_hidden()) scratch = std::max(scratch, grouped_gemm_workspace(on_, hidden()));
    if (a_.d_w_in) scratch = std::max(scratch, grouped_gemm_weight_grad_workspace(on_, w_in()));
    if (a_.d_x) scratch = std::max(scratch, grouped_gemm_workspace(on_, tokens()));
    return used_ + scratch;
  }

  Status run() const {
    const On on =
        with_workspace(on_, static_cast<char*>(on_.workspace) + used_, on_.workspace_bytes - used_);
    const auto wanted = [](bool is_wanted, auto&& step) {
      return [is_wanted, step] { return is_wanted ? step() : Status::ok; };
    };
    return in_order(
        wanted(wide_ || d_weights_, [&] { return combine_rows_grad(on, combine()); }),
        wanted(a_.d_logits, [&] { return topk_gate_grad(on, gate()); }),
        wanted(a_.d_w_out, [&] { return expert_activation(on, activation()); }),
        wanted(a_.d_w_out, [&] { return grouped_gemm_weight_grad(on, w_out()); }),
        wanted(is_through_hidden(), [&] { return grouped_gemm(on, hidden()); }),
        wanted(is_through_hidden(), [&] { return expert_activation_grad(on, activation_grad()); }),
        wanted(a_.d_w_in, [&] { return grouped_gemm_weight_grad(on, w_in()); }),
        wanted(a_.d_x, [&] { return grouped_gemm(on, tokens()); }),
        wanted(a_.d_x, [&] { return combine_rows(on, sum()); }));
  }

 private:
  bool is_through_hidden() const { return a_.d_x || a_.d_w_in; }
  bool is_through_rows() const { return is_through_hidden() || a_.d_w_out; }

  CombineRowsGrad combine() const {
    return {.d_y = a_.d_y,
            .rows = a_.rows,
            .weights = a_.weights,
            .slot_of = a_.slot_of,
            .d_rows = wide_,
            .d_weights = d_weights_,
            .tokens = a_.tokens,
            .k = a_.k,
            .row_count = rows_of(a_),
            .width = a_.out_width,
            .dtype = a_.dtype};
  }
  TopkGateGrad gate() const {
    return {.logits = a_.logits,
            .experts = a_.experts,
            .weights = a_.weights,
            .d_weights = d_weights_,
            .d_logits = a_.d_logits,
            .tokens = a_.tokens,
            .num_experts = a_.num_experts,
            .k = a_.k,
            .form = a_.form,
            .dtype = a_.gate_dtype,
            .noisy_logits = a_.noisy_logits};
  }
  ApplyExpertActivation activation() const {
    return {.pre = a_.pre,
            .y = hidden_,
            .rows = rows_of(a_),
            .width = a_.inner,
            .activation = a_.activation,
            .dtype = a_.dtype};
  }
  ExpertActivationGrad activation_grad() const {
    return {.d_y = hidden_,
            .pre = a_.pre,
            .d_pre = d_pre_,
            .rows = rows_of(a_),
            .width = a_.inner,
            .activation = a_.activation,
            .dtype = a_.dtype};
  }

  // The input gradient of a product: y [R, n] = x [R, k] · w, sorted rows on both sides.
  GroupedGemm input_grad(const void* x, const void* w, void* y, int n, int k) const {
    return {.x = x,
            .row_token = nullptr,
            .w = w,
            .bias = nullptr,
            .offsets = a_.offsets,
            .y = y,
            .rows = rows_of(a_),
            .x_rows = rows_of(a_),
            .experts = a_.num_experts,
            .n = n,
            .k = k,
            .transpose_w = Transpose::no,
            .dtype = a_.dtype,
            .precision = a_.precision};
  }
  GroupedGemm hidden() const {
    return input_grad(wide_, a_.w_out, hidden_, hidden_of(a_), a_.out_width);
  }
  GroupedGemm tokens() const { return input_grad(d_pre_, a_.w_in, wide_, a_.width, a_.inner); }

  GroupedGemmWeightGrad w_out() const {
    return {.x = hidden_,
            .row_token = nullptr,
            .d_y = wide_,
            .offsets = a_.offsets,
            .d_w = a_.d_w_out,
            .d_bias = a_.d_b_out,
            .rows = rows_of(a_),
            .x_rows = rows_of(a_),
            .experts = a_.num_experts,
            .n = a_.out_width,
            .k = hidden_of(a_),
            .dtype = a_.dtype,
            .precision = a_.precision};
  }
  GroupedGemmWeightGrad w_in() const {
    return {.x = a_.x,
            .row_token = a_.row_token,
            .d_y = d_pre_,
            .offsets = a_.offsets,
            .d_w = a_.d_w_in,
            .d_bias = a_.d_b_in,
            .rows = rows_of(a_),
            .x_rows = a_.tokens,
            .experts = a_.num_experts,
            .n = a_.inner,
            .k = a_.width,
            .dtype = a_.dtype,
            .precision = a_.precision};
  }

  // A token's gradient is the sum over its choices: dispatch_rows backwards.
  CombineRows sum() const {
    return {.rows = wide_,
            .weights = nullptr,
            .slot_of = a_.slot_of,
            .y = a_.d_x,
            .tokens = a_.tokens,
            .k = a_.k,
            .row_count = rows_of(a_),
            .width = a_.width,
            .dtype = a_.dtype};
  }

  On on_;
  const MoeLayerGrad& a_;
  void *d_weights_ = nullptr, *wide_ = nullptr, *hidden_ = nullptr, *d_pre_ = nullptr;
  size_t used_ = 0;
};

}  // namespace moat::kernels::layer
