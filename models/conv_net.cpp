#include "models/conv_net.h"

#include <algorithm>
#include <cmath>

namespace moat::models {

using namespace engine;

namespace {

constexpr int kPoolWindow = 3, kPoolStride = 2, kPoolPadding = 1;  // of the imagenet stem

int slid(int size, int window, int stride, int padding) {
  require(size + 2 * padding >= window, [&] {
    return text("the images are too small for this net: a window of ", window,
                " slides over maps of side ", size);
  });
  return (size + 2 * padding - window) / stride + 1;
}

}  // namespace

Tensor run(const ConvLayer& layer, const Tensor& x, const Pass& pass, const Tensor& residual,
           Activation activation) {
  return layer.forward(x, pass.mode, pass.route, residual, activation);
}

Bounds run(const ConvLayer& layer, const Bounds& x, const ExpertPath& path, const Bounds& residual,
           Activation activation) {
  return bounds(layer, x, path.expert, residual, activation);
}

Tensor run(const BatchNorm& norm, const Tensor& x, const Pass& pass, Activation activation) {
  return norm.forward(x, pass.mode, {}, activation);
}

Bounds run(const BatchNorm& norm, const Bounds& x, const ExpertPath&, Activation activation) {
  return bounds(norm, x, activation);
}

Tensor LayerMaker::filter(int c_out, int c_in, int kernel, int experts) {
  const Shape shape{int64_t{c_out} * experts, kernel, kernel, c_in};
  if (init_ == Init::uniform)
    return init_uniform(shape, 1 / std::sqrt(double(kernel * kernel * c_in)), stream_);
  const double fan_out = double(kernel) * kernel * c_out;
  const double bank = init_ == Init::kaiming_bank ? experts : 1;
  return init_normal(shape, std::sqrt(2 / (fan_out * bank)), stream_);
}

ConvLayer LayerMaker::shared(int c_out, int c_in, Window window, Norm norm) {
  return ConvLayer(filter(c_out, c_in, window.kernel, 1), 1,
                   {.stride = window.stride, .padding = window.kernel / 2}, norm);
}

ConvLayer LayerMaker::routed(int c_out, int c_in, Window window, Norm norm) {
  const int experts = shape_.experts;
  ConvLayer layer(filter(c_out, c_in, window.kernel, experts), experts,
                  {.stride = window.stride, .padding = window.kernel / 2}, norm);
  if (shape_.kept < 1)
    layer.choice = {.scores = init_uniform({c_out, 1}, 1, stream_).reshaped({c_out}),
                    .kept = std::max(1, static_cast<int>(shape_.kept * c_out))};
  return layer;
}

Linear LayerMaker::linear(int outputs, int inputs) {
  Linear linear;
  const double bound = 1 / std::sqrt(double(inputs));
  const bool uniform = init_ == Init::uniform;
  linear.weight = uniform ? init_uniform({outputs, inputs}, bound, stream_)
                          : init_normal({outputs, inputs}, 0.01, stream_);
  linear.bias = uniform ? init_uniform({outputs, 1}, bound, stream_).reshaped({outputs})
                        : Tensor::zeros({outputs});
  return linear;
}

StemLayers::StemLayers(const NetShape& shape, LayerMaker& make, ConvLayer::Norm norm)
    : conv(make.shared(
          shape.stem_width, shape.in_channels,
          shape.stem == Stem::imagenet ? LayerMaker::Window{7, 2} : LayerMaker::Window{3, 1},
          norm)),
      stem_(shape.stem) {}

template <class X, class How>
X StemLayers::forward(const X& x, const How& how) const {
  const X y = run(conv, x, how, {}, conv.norm ? Activation::relu : Activation::none);
  return stem_ == Stem::imagenet ? max_pool2d(y, kPoolWindow, kPoolStride, kPoolPadding) : y;
}
template Tensor StemLayers::forward(const Tensor&, const Pass&) const;
template Bounds StemLayers::forward(const Bounds&, const ExpertPath&) const;

void MacCounter::add(const ConvLayer& conv) {
  const int64_t pixels = int64_t{height_} * width_;
  macs_.all_experts += pixels * conv.filter.size();
  macs_.path += pixels * conv.filter.size() / conv.experts;
}

void MacCounter::pool(int window, int stride, int padding) {
  height_ = slid(height_, window, stride, padding);
  width_ = slid(width_, window, stride, padding);
}

void MacCounter::run(const ConvLayer& conv) {
  pool(to_int(conv.filter.dim(1)), conv.options.stride, conv.options.padding);
  add(conv);
}

void MacCounter::beside(const ConvLayer& projection) { add(projection); }

void MacCounter::run(const Linear& linear) {
  macs_.all_experts += linear.weight.size();
  macs_.path += linear.weight.size();
}

void MacCounter::stem(const StemLayers& stem, Stem form) {
  run(stem.conv);
  if (form == Stem::imagenet) pool(kPoolWindow, kPoolStride, kPoolPadding);
}

}  // namespace moat::models
