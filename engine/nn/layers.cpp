#include "engine/nn/layers.h"

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

Tensor Linear::forward(const Tensor& x) const { return linear(x, weight, bias); }

void Linear::visit(Visitor& v) {
  v.parameter("weight", weight);
  v.parameter("bias", bias);
}

ConvNorm::ConvNorm(Tensor filter_bank, int expert_count, const Conv2dOptions& conv_options)
    : filter(std::move(filter_bank)),
      norm(to_int(filter.dim(0)) / expert_count),
      options(conv_options),
      experts(expert_count) {}

void ConvNorm::visit(Visitor& v, const std::string& conv_name, const std::string& norm_name) {
  v.parameter(conv_name + ".weight", filter);
  v.child(norm_name, norm);
}

Tensor ConvNorm::forward(const Tensor& x, Mode mode, const Route* route, const Tensor& residual,
                         Activation activation) const {
  require(experts == 1 || route, "ConvNorm: a convolution with several experts needs a route");
  const bool routed = experts > 1;
  const bool constant = !is_differentiated(filter) && !is_differentiated(norm.weight) &&
                        !is_differentiated(norm.bias);
  if (mode == Mode::eval && constant) {
    const PackedConv2d& weights = packed(to_int(x.dim(1)), to_int(x.dim(2)), x.dtype());
    return routed ? grouped_conv2d_packed(x, weights, route->segments, route->gate, residual,
                                          activation)
                  : conv2d_packed(x, weights, residual, activation);
  }
  const Tensor y = routed ? grouped_conv2d(x, filter, route->segments, route->gate, options)
                          : conv2d(x, filter, options);
  return norm.forward(y, mode, residual, activation);
}

const PackedConv2d& ConvNorm::packed(int height, int width, Dtype dtype) const {
  const std::vector<uint64_t> versions = {filter.version(), norm.weight.version(),
                                          norm.bias.version(), norm.running_mean.version(),
                                          norm.running_var.version()};
  const PackedConv2d& known = folded_.packed;
  if (folded_.versions == versions && known.height == height && known.width == width &&
      known.dtype == dtype)
    return known;
  const NoTapeScope not_recorded;
  const FoldedConv folded = fold_batch_norm(filter, norm.weight, norm.bias, norm.running_mean,
                                            norm.running_var, norm.options);
  folded_ = {versions,
             pack_conv2d(folded.filter, folded.bias, options, height, width, dtype, experts)};
  return folded_.packed;
}

}  // namespace moat::engine
