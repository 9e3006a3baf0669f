#pragma once

// The definitions of LayerData, for the two targets it is made for: the CPU in kernel_bench.cpp,
// and CUDA in cuda/main.cpp, which the preset `cuda` alone builds.

#include "bench/layer_data.h"
#include "engine/error.h"

namespace moat::bench {

template <class On>
LayerData<On>::LayerData(Workbench& bench, On on, const LayerShape& shape, Dtype dtype,
                         const NormalValues& normals)
    : blocks_(bench, normals),
      on_(on),
      shape_(shape),
      dtype_(dtype),
      master_(dtype == Dtype::bf16 ? Dtype::f32 : dtype),
      gate_dtype_(shape.parts == Parts::gate ? dtype : master_),
      tokens_(engine::to_int(shape.tokens)),
      rows_(engine::to_int(shape.rows())),
      width_(engine::to_int(shape.width)),
      hidden_(engine::to_int(shape.hidden)),
      inner_(engine::to_int(shape.inner())) {
  const double tokens = tokens_, rows = rows_, experts = shape.experts, width = width_;
  logits_ = block(tokens * experts, gate_dtype_);
  weights_ = block(rows, master_);
  log_sum_exp_ = block(tokens, master_);
  margin_ = block(tokens, master_);
  experts_ = static_cast<int32_t*>(block(rows, Dtype::i32));
  offsets_ = static_cast<int32_t*>(block(experts + 1, Dtype::i32));
  row_token_ = static_cast<int32_t*>(block(rows, Dtype::i32));
  slot_of_ = static_cast<int32_t*>(block(rows, Dtype::i32));
  if (shape.parts == Parts::gate) return;

  x_ = normal_block(tokens * width, dtype_);
  sorted_ = normal_block(rows * width, dtype_);
  y_ = block(tokens * width, dtype_);
  if (shape.parts == Parts::rows) return;

  w_in_ = normal_block(experts * inner_ * width, dtype_);
  w_out_ = normal_block(experts * width * hidden_, dtype_);
  d_w_in_ = block(experts * inner_ * width, master_);
  if (shape.biases == Biases::present) {
    b_in_ = normal_block(experts * inner_, master_);
    b_out_ = normal_block(experts * width, master_);
    d_b_in_ = block(experts * inner_, master_);
    d_b_out_ = block(experts * width, master_);
  }
  hidden_rows_ = normal_block(rows * hidden_, dtype_);
  out_rows_ = block(rows * width, dtype_);
  d_pre_ = normal_block(rows * inner_, dtype_);
  if (shape.parts == Parts::products) return;

  d_w_out_ = block(experts * width * hidden_, master_);
  pre_ = block(rows * inner_, dtype_);
  d_y_ = normal_block(tokens * width, dtype_);
  d_x_ = block(tokens * width, dtype_);
  d_logits_ = block(tokens * experts, gate_dtype_);
}

template <class On>
void LayerData<On>::route(Load load) {
  const std::vector<float> logits = logits_of(shape_, load);
  if (gate_dtype_ == Dtype::bf16) {
    const std::vector<kernels::Bf16> rounded(logits.begin(), logits.end());
    blocks_.upload(logits_, rounded.data(), rounded.size() * sizeof(kernels::Bf16));
  } else {
    blocks_.upload(logits_, logits.data(), logits.size() * sizeof(float));
  }
  engine::check(kernels::topk_gate(scratch(kernels::topk_gate_workspace(on_, gate())), gate()));
  engine::check(
      kernels::routing_index(scratch(kernels::routing_index_workspace(on_, routing())), routing()));
  // What the backward pass needs.
  if (shape_.parts == Parts::layer)
    engine::check(
        kernels::moe_layer(scratch(kernels::moe_layer_workspace(on_, forward())), forward()));
}

template <class On>
kernels::TopkGate LayerData<On>::gate() const {
  return {.logits = logits_,
          .bias = nullptr,
          .weights = weights_,
          .experts = experts_,
          .log_sum_exp = log_sum_exp_,
          .margin = margin_,
          .tokens = tokens_,
          .num_experts = shape_.experts,
          .k = shape_.k,
          .form = kernels::GateForm::softmax_topk,
          .dtype = gate_dtype_};
}

template <class On>
kernels::RoutingIndex LayerData<On>::routing() const {
  return {.experts = experts_,
          .priority = nullptr,
          .offsets = offsets_,
          .row_token = row_token_,
          .slot_of = slot_of_,
          .tokens = tokens_,
          .k = shape_.k,
          .num_experts = shape_.experts,
          .capacity = 0,
          .priority_dtype = Dtype::f32};
}

template <class On>
kernels::DispatchRows LayerData<On>::dispatch() const {
  return {.x = x_,
          .row_token = row_token_,
          .y = sorted_,
          .tokens = tokens_,
          .rows = rows_,
          .width = width_,
          .dtype = dtype_,
          .slot_of = slot_of_,
          .k = shape_.k};
}

template <class On>
kernels::CombineRows LayerData<On>::combine() const {
  return {.rows = sorted_,
          .weights = weights_,
          .slot_of = slot_of_,
          .y = y_,
          .tokens = tokens_,
          .k = shape_.k,
          .row_count = rows_,
          .width = width_,
          .dtype = dtype_};
}

template <class On>
kernels::GroupedGemm LayerData<On>::product_in() const {
  return {.x = x_,
          .row_token = row_token_,
          .w = w_in_,
          .bias = b_in_,
          .offsets = offsets_,
          .y = hidden_rows_,
          .rows = rows_,
          .x_rows = tokens_,
          .experts = shape_.experts,
          .n = inner_,
          .k = width_,
          .transpose_w = kernels::Transpose::yes,
          .dtype = dtype_,
          .activation = shape_.activation};
}

template <class On>
kernels::GroupedGemm LayerData<On>::product_out() const {
  return {.x = hidden_rows_,
          .row_token = nullptr,
          .w = w_out_,
          .bias = b_out_,
          .offsets = offsets_,
          .y = out_rows_,
          .rows = rows_,
          .x_rows = rows_,
          .experts = shape_.experts,
          .n = width_,
          .k = hidden_,
          .transpose_w = kernels::Transpose::yes,
          .dtype = dtype_};
}

template <class On>
kernels::GroupedGemm LayerData<On>::input_grad() const {
  return {.x = d_pre_,
          .row_token = nullptr,
          .w = w_in_,
          .bias = nullptr,
          .offsets = offsets_,
          .y = sorted_,
          .rows = rows_,
          .x_rows = rows_,
          .experts = shape_.experts,
          .n = width_,
          .k = inner_,
          .transpose_w = kernels::Transpose::no,
          .dtype = dtype_};
}

template <class On>
kernels::GroupedGemmWeightGrad LayerData<On>::weight_grad() const {
  return {.x = x_,
          .row_token = row_token_,
          .d_y = d_pre_,
          .offsets = offsets_,
          .d_w = d_w_in_,
          .d_bias = d_b_in_,
          .rows = rows_,
          .x_rows = tokens_,
          .experts = shape_.experts,
          .n = inner_,
          .k = width_,
          .dtype = dtype_};
}

template <class On>
kernels::MoeLayer LayerData<On>::forward() const {
  return {.x = x_,
          .logits = logits_,
          .gate_bias = nullptr,
          .priority = nullptr,
          .w_in = w_in_,
          .b_in = b_in_,
          .w_out = w_out_,
          .b_out = b_out_,
          .y = y_,
          .weights = weights_,
          .experts = experts_,
          .log_sum_exp = log_sum_exp_,
          .margin = margin_,
          .noisy_logits = nullptr,
          .offsets = offsets_,
          .row_token = row_token_,
          .slot_of = slot_of_,
          .pre = pre_,
          .rows = out_rows_,
          .tokens = tokens_,
          .num_experts = shape_.experts,
          .k = shape_.k,
          .width = width_,
          .inner = inner_,
          .out_width = width_,
          .capacity = 0,
          .form = kernels::GateForm::softmax_topk,
          .activation = shape_.activation,
          .dtype = dtype_,
          .gate_dtype = gate_dtype_};
}

template <class On>
kernels::MoeLayerGrad LayerData<On>::backward(bool with_weights) const {
  return {.d_y = d_y_,
          .x = x_,
          .logits = logits_,
          .noisy_logits = nullptr,
          .w_in = w_in_,
          .w_out = w_out_,
          .weights = weights_,
          .experts = experts_,
          .offsets = offsets_,
          .row_token = row_token_,
          .slot_of = slot_of_,
          .pre = pre_,
          .rows = out_rows_,
          .d_x = d_x_,
          .d_logits = d_logits_,
          .d_w_in = with_weights ? d_w_in_ : nullptr,
          .d_b_in = with_weights ? d_b_in_ : nullptr,
          .d_w_out = with_weights ? d_w_out_ : nullptr,
          .d_b_out = with_weights ? d_b_out_ : nullptr,
          .tokens = tokens_,
          .num_experts = shape_.experts,
          .k = shape_.k,
          .width = width_,
          .inner = inner_,
          .out_width = width_,
          .form = kernels::GateForm::softmax_topk,
          .activation = shape_.activation,
          .dtype = dtype_,
          .gate_dtype = gate_dtype_};
}

}  // namespace moat::bench
