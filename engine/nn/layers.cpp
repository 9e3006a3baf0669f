#include "engine/nn/layers.h"

#include "engine/nn/filter_choice.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/tape.h"

namespace moat::engine {

BatchNorm::BatchNorm(int channels, Affine affine)
    : running_mean(Tensor::zeros({channels})), running_var(Tensor::full({channels}, 1)) {
  if (affine == Affine::no) return;
  weight = Tensor::full({channels}, 1);
  bias = Tensor::zeros({channels});
}

Tensor BatchNorm::forward(const Tensor& x, Mode mode, const Tensor& residual,
                          Activation activation) const {
  const auto op = mode == Mode::train ? batch_norm_train : batch_norm_eval;
  return op(x, weight, bias, running_mean, running_var, residual, activation, options);
}

void BatchNorm::visit(Visitor& v) {
  v.parameter("weight", weight);
  v.parameter("bias", bias);
  v.buffer("running_mean", running_mean);
  v.buffer("running_var", running_var);
}

Tensor Linear::forward(const Tensor& x, const Tensor& residual) const {
  return linear(x, weight, bias, residual);
}

void Linear::visit(Visitor& v) {
  v.parameter("weight", weight);
  v.parameter("bias", bias);
}

ConvLayer::ConvLayer(Tensor filter_bank, int expert_count, const Conv2dOptions& conv_options,
                     Norm followed_by)
    : filter(std::move(filter_bank)), options(conv_options), experts(expert_count) {
  if (followed_by == Norm::batch) norm.emplace(to_int(filter.dim(0)) / expert_count);
}

void ConvLayer::visit(Visitor& v, const std::string& conv_name, const std::string& norm_name) {
  v.parameter(conv_name + ".weight", filter);
  v.parameter(conv_name + ".scores", choice.scores);
  if (norm) v.child(norm_name, *norm);
}

Tensor ConvLayer::chosen_filter() const {
  return choice.scores.defined() ? keep_filters(filter, choice.scores, choice.kept) : filter;
}

bool ConvLayer::is_constant() const {
  return !is_differentiated(filter) && !(norm && is_differentiated(norm->weight)) &&
         !(norm && is_differentiated(norm->bias)) &&
         !(choice.scores.defined() && is_differentiated(choice.scores));
}

Tensor ConvLayer::forward(const Tensor& x, Mode mode, const Route* route, const Tensor& residual,
                          Activation activation) const {
  require(experts == 1 || route, "ConvLayer: a convolution with several experts needs a route");
  const bool routed = experts > 1;
  if (mode == Mode::eval && is_constant()) {
    const PackedConv2d& weights = packed(to_int(x.dim(1)), to_int(x.dim(2)), x.dtype());
    return routed ? grouped_conv2d_packed(x, weights, route->segments, route->gate, residual,
                                          activation)
                  : conv2d_packed(x, weights, residual, activation);
  }
  Tensor y = routed ? grouped_conv2d(x, filter, route->segments, route->gate, options)
                    : conv2d(x, chosen_filter(), options);
  if (norm) return norm->forward(y, mode, residual, activation);
  if (residual.defined()) y = add(y, residual);
  return activation == Activation::relu ? relu(y) : y;
}

const PackedConv2d& ConvLayer::packed(int height, int width, Dtype dtype) const {
  std::vector<uint64_t> versions = {filter.version()};
  if (norm)
    for (const Tensor* t : {&norm->weight, &norm->bias, &norm->running_mean, &norm->running_var})
      versions.push_back(t->version());
  if (choice.scores.defined()) versions.push_back(choice.scores.version());
  const PackedConv2d& known = folded_.packed;
  if (folded_.versions == versions && known.height == height && known.width == width &&
      known.dtype == dtype)
    return known;
  const NoTapeScope not_recorded;
  FoldedConv folded{chosen_filter(), {}};
  if (norm)
    folded = fold_batch_norm(folded.filter, norm->weight, norm->bias, norm->running_mean,
                             norm->running_var, norm->options);
  else
    folded.bias = Tensor::zeros({filter.dim(0)}, filter.dtype(), filter.device());
  folded_ = {std::move(versions),
             pack_conv2d(folded.filter, folded.bias, options, height, width, dtype, experts)};
  return folded_.packed;
}

}  // namespace moat::engine
