#include "tests/c_api_calls.h"

#include <algorithm>
#include <stdexcept>

namespace moat::tests {

namespace {

constexpr int64_t kTokens = 5, kExperts = 3, kChoices = 2, kRows = kTokens * kChoices, kWidth = 4,
                  kInner = 6;

constexpr Use in = Use::in, in_or_null = Use::in_or_null, out = Use::out,
              out_or_null = Use::out_or_null;

void fill(TensorOfCall& t, std::vector<int32_t> values) {
  std::copy(values.begin(), values.end(), t.ints());
}

// A routing of 5 tokens: experts 0 and 1, in turn 0 and 2.
const std::vector<int32_t> experts_of_tokens{0, 1, 0, 2, 0, 1, 0, 2, 0, 1},
    offsets_of_experts{0, 5, 8, 10}, tokens_of_rows{0, 1, 2, 3, 4, 0, 2, 4, 1, 3},
    slots_of_choices{0, 5, 1, 8, 2, 6, 3, 9, 4, 7};

template <class Args>
LegalCall begin(const char* name, moat_context* context, std::shared_ptr<Args>& args) {
  args = std::make_shared<Args>();  // all zero
  LegalCall call;
  call.name = name;
  call.on.device = {kDLCPU, 0};
  call.on.context = context;
  return call;
}

LegalCall topk_gate(moat_context* context) {
  std::shared_ptr<moat_topk_gate_args> a;
  LegalCall call = begin("moat_topk_gate", context, a);
  a->form = MOAT_SIGMOID_TOPK;
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("bias", a->bias, in_or_null, kFloat32, {kExperts});
  call.add("weights", a->weights, out, kFloat32, {kTokens, kChoices});
  call.add("experts", a->experts, out, kInt32, {kTokens, kChoices});
  call.add("log_sum_exp", a->log_sum_exp, out, kFloat32, {kTokens});
  call.add("margin", a->margin, out, kFloat32, {kTokens});
  call.add("noisy_logits", a->noisy_logits, out_or_null, kFloat32, {kTokens, kExperts});
  call.add("noise.samples", a->noise.samples, in_or_null, kInt32, {kTokens});
  a->noise.deviation = 0.5;
  call.takes(a, moat_topk_gate, moat_topk_gate_workspace);
  call.get_workspace();
  return call;
}

LegalCall topk_gate_grad(moat_context* context) {
  std::shared_ptr<moat_topk_gate_grad_args> a;
  LegalCall call = begin("moat_topk_gate_grad", context, a);
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("noisy_logits", a->noisy_logits, in_or_null, kFloat32, {kTokens, kExperts});
  fill(call.add("experts", a->experts, in, kInt32, {kTokens, kChoices}), experts_of_tokens);
  call.add("weights", a->weights, in, kFloat32, {kTokens, kChoices});
  call.add("d_weights", a->d_weights, in, kFloat32, {kTokens, kChoices});
  call.add("d_logits", a->d_logits, out, kFloat32, {kTokens, kExperts});
  call.takes(a, moat_topk_gate_grad);
  return call;
}

LegalCall gate_losses(moat_context* context) {
  std::shared_ptr<moat_gate_losses_args> a;
  LegalCall call = begin("moat_gate_losses", context, a);
  a->deviation = 0.5;
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("noisy_logits", a->noisy_logits, in_or_null, kFloat32, {kTokens, kExperts});
  fill(call.add("experts", a->experts, in, kInt32, {kTokens, kChoices}), experts_of_tokens);
  call.add("losses", a->losses, out, kFloat32, {4});
  call.add("sums", a->sums, out, kFloat64, {4, kExperts});
  call.takes(a, moat_gate_losses, moat_gate_losses_workspace);
  call.get_workspace();
  return call;
}

LegalCall gate_losses_grad(moat_context* context) {
  std::shared_ptr<moat_gate_losses_grad_args> a;
  LegalCall call = begin("moat_gate_losses_grad", context, a);
  a->deviation = 0.5;
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("noisy_logits", a->noisy_logits, in_or_null, kFloat32, {kTokens, kExperts});
  fill(call.add("experts", a->experts, in, kInt32, {kTokens, kChoices}), experts_of_tokens);
  call.add("sums", a->sums, in, kFloat64, {4, kExperts});
  call.add("d_losses", a->d_losses, in, kFloat32, {4});
  call.add("d_logits", a->d_logits, out, kFloat32, {kTokens, kExperts});
  call.takes(a, moat_gate_losses_grad, moat_gate_losses_grad_workspace);
  call.get_workspace();
  return call;
}

LegalCall routing_index(moat_context* context) {
  std::shared_ptr<moat_routing_index_args> a;
  LegalCall call = begin("moat_routing_index", context, a);
  fill(call.add("experts", a->experts, in, kInt32, {kTokens, kChoices}), experts_of_tokens);
  call.add("priority", a->priority, in_or_null, kFloat32, {kTokens});
  call.add("offsets", a->offsets, out, kInt32, {kExperts + 1});
  call.add("row_token", a->row_token, out, kInt32, {kRows});
  call.add("slot_of", a->slot_of, out, kInt32, {kTokens, kChoices});
  call.takes(a, moat_routing_index, moat_routing_index_workspace);
  call.get_workspace();
  return call;
}

LegalCall dispatch_rows(moat_context* context) {
  std::shared_ptr<moat_dispatch_rows_args> a;
  LegalCall call = begin("moat_dispatch_rows", context, a);
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  fill(call.add("row_token", a->row_token, in, kInt32, {kRows}), tokens_of_rows);
  call.add("y", a->y, out, kFloat32, {kRows, kWidth});
  call.takes(a, moat_dispatch_rows);
  return call;
}

LegalCall combine_rows(moat_context* context) {
  std::shared_ptr<moat_combine_rows_args> a;
  LegalCall call = begin("moat_combine_rows", context, a);
  call.add("rows", a->rows, in, kFloat32, {kRows, kWidth});
  call.add("weights", a->weights, in_or_null, kFloat32, {kTokens, kChoices});
  fill(call.add("slot_of", a->slot_of, in, kInt32, {kTokens, kChoices}), slots_of_choices);
  call.add("y", a->y, out, kFloat32, {kTokens, kWidth});
  call.takes(a, moat_combine_rows);
  return call;
}

LegalCall combine_rows_grad(moat_context* context) {
  std::shared_ptr<moat_combine_rows_grad_args> a;
  LegalCall call = begin("moat_combine_rows_grad", context, a);
  call.add("d_y", a->d_y, in, kFloat32, {kTokens, kWidth});
  call.add("rows", a->rows, in, kFloat32, {kRows, kWidth});
  call.add("weights", a->weights, in_or_null, kFloat32, {kTokens, kChoices});
  fill(call.add("slot_of", a->slot_of, in, kInt32, {kTokens, kChoices}), slots_of_choices);
  call.add("d_rows", a->d_rows, out_or_null, kFloat32, {kRows, kWidth});
  call.add("d_weights", a->d_weights, out_or_null, kFloat32, {kTokens, kChoices});
  call.takes(a, moat_combine_rows_grad);
  return call;
}

LegalCall grouped_gemm(moat_context* context) {
  std::shared_ptr<moat_grouped_gemm_args> a;
  LegalCall call = begin("moat_grouped_gemm", context, a);
  a->activation = MOAT_SWIGLU;
  a->transpose_w = MOAT_TRANSPOSED;
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  fill(call.add("row_token", a->row_token, in, kInt32, {kRows}), tokens_of_rows);
  call.add("w", a->w, in, kFloat32, {kExperts, kInner, kWidth});
  call.add("bias", a->bias, in_or_null, kFloat32, {kExperts, kInner});
  fill(call.add("offsets", a->offsets, in, kInt32, {kExperts + 1}), offsets_of_experts);
  call.add("y", a->y, out, kFloat32, {kRows, kInner / 2});
  call.add("pre", a->pre, out_or_null, kFloat32, {kRows, kInner});
  call.takes(a, moat_grouped_gemm, moat_grouped_gemm_workspace);
  call.get_workspace();
  return call;
}

LegalCall weight_grad(moat_context* context) {
  std::shared_ptr<moat_grouped_gemm_weight_grad_args> a;
  LegalCall call = begin("moat_grouped_gemm_weight_grad", context, a);
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  fill(call.add("row_token", a->row_token, in, kInt32, {kRows}), tokens_of_rows);
  call.add("d_y", a->d_y, in, kFloat32, {kRows, kInner});
  fill(call.add("offsets", a->offsets, in, kInt32, {kExperts + 1}), offsets_of_experts);
  call.add("d_w", a->d_w, out, kFloat32, {kExperts, kInner, kWidth});
  call.add("d_bias", a->d_bias, out_or_null, kFloat32, {kExperts, kInner});
  call.takes(a, moat_grouped_gemm_weight_grad, moat_grouped_gemm_weight_grad_workspace);
  call.get_workspace();
  return call;
}

LegalCall activation(moat_context* context) {
  std::shared_ptr<moat_expert_activation_args> a;
  LegalCall call = begin("moat_expert_activation", context, a);
  a->activation = MOAT_SWIGLU;
  call.add("pre", a->pre, in, kFloat32, {kRows, kInner});
  call.add("y", a->y, out, kFloat32, {kRows, kInner / 2});
  call.takes(a, moat_expert_activation);
  return call;
}

LegalCall activation_grad(moat_context* context) {
  std::shared_ptr<moat_expert_activation_grad_args> a;
  LegalCall call = begin("moat_expert_activation_grad", context, a);
  a->activation = MOAT_SWIGLU;
  call.add("d_y", a->d_y, in, kFloat32, {kRows, kInner / 2});
  call.add("pre", a->pre, in, kFloat32, {kRows, kInner});
  call.add("d_pre", a->d_pre, out, kFloat32, {kRows, kInner});
  call.takes(a, moat_expert_activation_grad);
  return call;
}

LegalCall moe_layer(moat_context* context) {
  std::shared_ptr<moat_moe_layer_args> a;
  LegalCall call = begin("moat_moe_layer", context, a);
  a->form = MOAT_SIGMOID_TOPK;
  a->activation = MOAT_SWIGLU;
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("gate_bias", a->gate_bias, in_or_null, kFloat32, {kExperts});
  call.add("priority", a->priority, in_or_null, kFloat32, {kTokens});
  call.add("w_in", a->w_in, in, kFloat32, {kExperts, kInner, kWidth});
  call.add("b_in", a->b_in, in_or_null, kFloat32, {kExperts, kInner});
  call.add("w_out", a->w_out, in, kFloat32, {kExperts, kWidth, kInner / 2});
  call.add("b_out", a->b_out, in_or_null, kFloat32, {kExperts, kWidth});
  call.add("y", a->y, out, kFloat32, {kTokens, kWidth});
  call.add("weights", a->weights, out, kFloat32, {kTokens, kChoices});
  call.add("experts", a->experts, out, kInt32, {kTokens, kChoices});
  call.add("log_sum_exp", a->log_sum_exp, out, kFloat32, {kTokens});
  call.add("margin", a->margin, out, kFloat32, {kTokens});
  call.add("noisy_logits", a->noisy_logits, out_or_null, kFloat32, {kTokens, kExperts});
  call.add("offsets", a->offsets, out, kInt32, {kExperts + 1});
  call.add("row_token", a->row_token, out, kInt32, {kRows});
  call.add("slot_of", a->slot_of, out, kInt32, {kTokens, kChoices});
  call.add("pre", a->pre, out_or_null, kFloat32, {kRows, kInner});
  call.add("rows", a->rows, out_or_null, kFloat32, {kRows, kWidth});
  call.takes(a, moat_moe_layer, moat_moe_layer_workspace);
  call.get_workspace();
  return call;
}

LegalCall moe_layer_grad(moat_context* context) {
  std::shared_ptr<moat_moe_layer_grad_args> a;
  LegalCall call = begin("moat_moe_layer_grad", context, a);
  a->activation = MOAT_SWIGLU;
  call.add("d_y", a->d_y, in, kFloat32, {kTokens, kWidth});
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  call.add("logits", a->logits, in, kFloat32, {kTokens, kExperts});
  call.add("noisy_logits", a->noisy_logits, in_or_null, kFloat32, {kTokens, kExperts});
  call.add("w_in", a->w_in, in, kFloat32, {kExperts, kInner, kWidth});
  call.add("w_out", a->w_out, in, kFloat32, {kExperts, kWidth, kInner / 2});
  call.add("weights", a->weights, in, kFloat32, {kTokens, kChoices});
  fill(call.add("experts", a->experts, in, kInt32, {kTokens, kChoices}), experts_of_tokens);
  fill(call.add("offsets", a->offsets, in, kInt32, {kExperts + 1}), offsets_of_experts);
  fill(call.add("row_token", a->row_token, in, kInt32, {kRows}), tokens_of_rows);
  fill(call.add("slot_of", a->slot_of, in, kInt32, {kTokens, kChoices}), slots_of_choices);
  call.add("pre", a->pre, in, kFloat32, {kRows, kInner});
  call.add("rows", a->rows, in, kFloat32, {kRows, kWidth});
  call.add("d_x", a->d_x, out_or_null, kFloat32, {kTokens, kWidth});
  call.add("d_logits", a->d_logits, out_or_null, kFloat32, {kTokens, kExperts});
  call.add("d_w_in", a->d_w_in, out, kFloat32, {kExperts, kInner, kWidth});
  call.add("d_b_in", a->d_b_in, out_or_null, kFloat32, {kExperts, kInner});
  call.add("d_w_out", a->d_w_out, out, kFloat32, {kExperts, kWidth, kInner / 2});
  call.add("d_b_out", a->d_b_out, out_or_null, kFloat32, {kExperts, kWidth});
  call.takes(a, moat_moe_layer_grad, moat_moe_layer_grad_workspace);
  call.get_workspace();
  return call;
}

LegalCall softmax(moat_context* context) {
  std::shared_ptr<moat_softmax_args> a;
  LegalCall call = begin("moat_softmax", context, a);
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  call.add("y", a->y, out, kFloat32, {kTokens, kWidth});
  call.takes(a, moat_softmax);
  return call;
}

LegalCall softmax_grad(moat_context* context) {
  std::shared_ptr<moat_softmax_grad_args> a;
  LegalCall call = begin("moat_softmax_grad", context, a);
  call.add("y", a->y, in, kFloat32, {kTokens, kWidth});
  call.add("d_y", a->d_y, in, kFloat32, {kTokens, kWidth});
  call.add("d_x", a->d_x, out, kFloat32, {kTokens, kWidth});
  call.takes(a, moat_softmax_grad);
  return call;
}

LegalCall ball_step(moat_context* context) {
  std::shared_ptr<moat_ball_step_args> a;
  LegalCall call = begin("moat_ball_step", context, a);
  a->eps = 0.1;
  a->step = 0.05;
  call.add("x", a->x, in, kFloat32, {kTokens, kWidth});
  call.add("gradient", a->gradient, in_or_null, kFloat32, {kTokens, kWidth});
  call.add("center", a->center, in, kFloat32, {kTokens, kWidth});
  call.add("y", a->y, out, kFloat32, {kTokens, kWidth});
  call.takes(a, moat_ball_step);
  return call;
}

}  // namespace

size_t TensorOfCall::bytes() const {
  size_t count = dl.dtype.bits / 8;
  for (int64_t extent : shape) count *= static_cast<size_t>(extent);
  return count;
}

bool TensorOfCall::is_poisoned() const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(memory.data());
  return std::all_of(bytes, bytes + memory.size() * sizeof(double),
                     [](unsigned char byte) { return byte == 0xff; });
}

TensorOfCall& LegalCall::tensor(const std::string& its_name) {
  for (TensorOfCall& t : tensors)
    if (t.name == its_name) return t;
  throw std::logic_error(name + " has no tensor " + its_name);
}

bool LegalCall::results_are_poisoned() const {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const TensorOfCall& t) { return !t.is_written() || t.is_poisoned(); });
}

TensorOfCall& LegalCall::add(const char* its_name, Use use, DLDataType type,
                             std::vector<int64_t> shape) {
  TensorOfCall& t = tensors.emplace_back();
  t.name = its_name;
  t.use = use;
  t.shape = std::move(shape);
  t.dl.ndim = static_cast<int>(t.shape.size());
  t.dl.shape = t.shape.data();
  t.dl.device = {kDLCPU, 0};
  t.dl.dtype = type;
  t.memory.resize(t.bytes() / sizeof(double) + 2);  // room behind, for an offset
  if (t.is_written()) std::memset(t.memory.data(), 0xff, t.memory.size() * sizeof(double));
  t.dl.data = t.memory.data();
  return t;
}

void LegalCall::get_workspace() {
  if (!workspace) return;
  size_t bytes = 0;
  if (workspace(&on, &bytes) != MOAT_OK) throw std::logic_error(moat_last_error());
  scratch_.resize(bytes + 64);
  void* first = scratch_.data();
  size_t space = scratch_.size();
  on.workspace = std::align(64, bytes, first, space);
  on.workspace_bytes = bytes;
}

std::vector<std::function<LegalCall(moat_context*)>> legal_calls() {
  return {topk_gate,     topk_gate_grad,  gate_losses,       gate_losses_grad, routing_index,
          dispatch_rows, combine_rows,    combine_rows_grad, grouped_gemm,     weight_grad,
          activation,    activation_grad, moe_layer,         moe_layer_grad,   softmax,
          softmax_grad,  ball_step};
}

}  // namespace moat::tests
