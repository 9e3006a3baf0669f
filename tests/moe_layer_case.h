#pragma once

// The layer's tensors in memory of a target, and both of its passes.

#include <cstring>
#include <memory>
#include <vector>

#include "kernels/library/context.h"
#include "tests/moe_layer_reference.h"

namespace moat::tests {

template <class T>
inline constexpr kernels::Dtype kLayerDtype =
    std::is_same_v<T, double> ? kernels::Dtype::f64 : kernels::Dtype::f32;

// `count` values of T on the host, all bits of them set, or those of a vector.
template <class T>
class HostArray {
 public:
  explicit HostArray(size_t count) : count_(count), bytes_(count * sizeof(T) + 64) {
    void* first = bytes_.data();
    size_t space = bytes_.size();
    data_ = static_cast<T*>(std::align(64, count * sizeof(T), first, space));
    std::memset(bytes_.data(), 0xff, bytes_.size());
  }
  explicit HostArray(const std::vector<T>& values) : HostArray(values.size()) {
    if (count_) std::memcpy(data_, values.data(), count_ * sizeof(T));
  }
  HostArray(const HostArray&) = delete;
  HostArray& operator=(const HostArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> host() const { return {data_, data_ + count_}; }

 private:
  size_t count_;
  std::vector<std::byte> bytes_;
  T* data_;
};

// One layer; everything it writes starts as NaN or -1.
template <class T, template <class> class Array>
struct Layer {
  explicit Layer(const LayerProblem& p)
      : problem(p),
        x(converted(p.x)),
        logits(converted(p.logits)),
        priority(converted(p.priority)),
        w_in(converted(p.w_in)),
        b_in(converted(p.b_in)),
        w_out(converted(p.w_out)),
        b_out(converted(p.b_out)),
        y(count_of(p.tokens, p.out_width)),
        weights(count_of(p.tokens, p.k)),
        log_sum_exp(size_t(p.tokens)),
        margin(size_t(p.tokens)),
        pre(count_of(p.tokens, p.k, p.inner)),
        rows(count_of(p.tokens, p.k, p.out_width)),
        d_x(p.x.size()),
        d_logits(p.logits.size()),
        d_w_in(p.w_in.size()),
        d_b_in(p.b_in.size()),
        d_w_out(p.w_out.size()),
        d_b_out(p.b_out.size()),
        experts(count_of(p.tokens, p.k)),
        offsets(size_t(p.experts) + 1),
        row_token(count_of(p.tokens, p.k)),
        slot_of(count_of(p.tokens, p.k)) {}

  kernels::MoeLayer forward_args() const {
    const LayerProblem& p = problem;
    return {.x = x.data(),
            .logits = logits.data(),
            .gate_bias = nullptr,
            .priority = p.priority.empty() ? nullptr : priority.data(),
            .w_in = w_in.data(),
            .b_in = p.b_in.empty() ? nullptr : b_in.data(),
            .w_out = w_out.data(),
            .b_out = p.b_out.empty() ? nullptr : b_out.data(),
            .y = y.data(),
            .weights = weights.data(),
            .experts = experts.data(),
            .log_sum_exp = log_sum_exp.data(),
            .margin = margin.data(),
            .noisy_logits = nullptr,
            .offsets = offsets.data(),
            .row_token = row_token.data(),
            .slot_of = slot_of.data(),
            .pre = pre.data(),
            .rows = rows.data(),
            .tokens = p.tokens,
            .num_experts = p.experts,
            .k = p.k,
            .width = p.width,
            .inner = p.inner,
            .out_width = p.out_width,
            .capacity = p.capacity,
            .form = p.form,
            .activation = p.activation,
            .dtype = kLayerDtype<T>,
            .gate_dtype = kLayerDtype<T>};
  }

  // Of all gradients; what an input-only backward pass does not read is nullptr in it.
  kernels::MoeLayerGrad backward_args(const Array<T>& d_y) const {
    const LayerProblem& p = problem;
    return {.d_y = d_y.data(),
            .x = x.data(),
            .logits = logits.data(),
            .noisy_logits = nullptr,
            .w_in = w_in.data(),
            .w_out = w_out.data(),
            .weights = weights.data(),
            .experts = experts.data(),
            .offsets = offsets.data(),
            .row_token = row_token.data(),
            .slot_of = slot_of.data(),
            .pre = pre.data(),
            .rows = rows.data(),
            .d_x = d_x.data(),
            .d_logits = d_logits.data(),
            .d_w_in = d_w_in.data(),
            .d_b_in = p.b_in.empty() ? nullptr : d_b_in.data(),
            .d_w_out = d_w_out.data(),
            .d_b_out = p.b_out.empty() ? nullptr : d_b_out.data(),
            .tokens = p.tokens,
            .num_experts = p.experts,
            .k = p.k,
            .width = p.width,
            .inner = p.inner,
            .out_width = p.out_width,
            .form = p.form,
            .activation = p.activation,
            .dtype = kLayerDtype<T>,
            .gate_dtype = kLayerDtype<T>};
  }
  kernels::MoeLayerGrad input_args(const Array<T>& d_y) const {
    kernels::MoeLayerGrad args = backward_args(d_y);
    args.x = nullptr;
    args.row_token = nullptr;
    args.d_w_in = args.d_b_in = args.d_w_out = args.d_b_out = nullptr;
    return args;
  }

  static std::vector<T> converted(const Values& values) { return {values.begin(), values.end()}; }

  LayerProblem problem;
  Array<T> x, logits, priority, w_in, b_in, w_out, b_out;
  Array<T> y, weights, log_sum_exp, margin, pre, rows;
  Array<T> d_x, d_logits, d_w_in, d_b_in, d_w_out, d_b_out;
  Array<int32_t> experts, offsets, row_token, slot_of;
};

// Runs a pass with exactly the scratch memory that it asks for, less `missing` bytes.
template <template <class> class Array, class On, class Args>
kernels::Status run_pass(On on, kernels::Status (*pass)(On, const Args&),
                         size_t (*workspace)(On, const Args&), const Args& args,
                         size_t missing = 0) {
  const size_t bytes = workspace(on, args);
  const Array<char> scratch(bytes);
  on.workspace = scratch.data();
  on.workspace_bytes = bytes - std::min(bytes, missing);
  return pass(on, args);
}

// The problem in numbers that float32 has.
inline LayerProblem rounded(LayerProblem p) {
  for (Values* values : {&p.x, &p.logits, &p.priority, &p.w_in, &p.b_in, &p.w_out, &p.b_out})
    for (double& value : *values) value = static_cast<float>(value);
  return p;
}

// All forms, activations and edges, small.
inline std::vector<LayerProblem> layer_problems() {
  using kernels::ExpertActivation, kernels::GateForm;
  std::vector<LayerProblem> out;
  for (const auto form : {GateForm::softmax_topk, GateForm::softmax_topk_renorm,
                          GateForm::topk_softmax, GateForm::sigmoid_topk})
    out.push_back(
        {.tokens = 9, .experts = 4, .k = 2, .width = 5, .inner = 6, .out_width = 3, .form = form});
  for (const auto activation : {ExpertActivation::none, ExpertActivation::relu,
                                ExpertActivation::gelu_tanh, ExpertActivation::swiglu})
    out.push_back({.tokens = 7,
                   .experts = 3,
                   .k = 2,
                   .width = 4,
                   .inner = 6,
                   .out_width = 4,
                   .activation = activation});
  out.push_back({.tokens = 3, .experts = 1, .k = 1, .width = 2, .inner = 1, .out_width = 2});
  out.push_back({.tokens = 4, .experts = 3, .k = 3, .width = 2, .inner = 3, .out_width = 2});
  out.push_back({.tokens = 0, .experts = 3, .k = 2, .width = 2, .inner = 3, .out_width = 2});
  out.push_back({.tokens = 4, .experts = 3, .k = 2, .width = 0, .inner = 3, .out_width = 2});
  out.push_back({.tokens = 4, .experts = 3, .k = 2, .width = 2, .inner = 0, .out_width = 2});
  out.push_back({.tokens = 4, .experts = 3, .k = 2, .width = 2, .inner = 3, .out_width = 0});
  out.push_back(
      {.tokens = 12, .experts = 3, .k = 2, .width = 4, .inner = 5, .out_width = 4, .capacity = 3});
  // As many rows as fill tiles of a product, for experts that do not.
  out.push_back({.tokens = 64, .experts = 3, .k = 2, .width = 3, .inner = 2, .out_width = 3});
  // As many rows as fill tiles of a product, for experts that do not.
  out.push_back({.tokens = 64, .experts = 3, .k = 2, .width = 3, .inner = 2, .out_width = 3});
  out.push_back(
      {.tokens = 12, .experts = 3, .k = 2, .width = 4, .inner = 5, .out_width = 4, .capacity = 3});
  for (size_t i = 0; i < out.size(); ++i) out[i] = filled(out[i], static_cast<unsigned>(10 * i));
  out.push_back(out.back());
  out.back().priority = normals(12, 99);
  out.push_back(out.front());
  out.back().b_in.clear();
  out.back().b_out.clear();
  for (double& logit : out.back().logits) logit = std::abs(logit);
  for (size_t i = 3; i < out.back().logits.size(); i += 4) out.back().logits[i] = -9;  // nobody's
  return out;
}

}  // namespace moat::tests
