#include "models/densenet.h"

#include <string>

#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {
constexpr int kBottleneck = 4;  // width of a layer's 1x1, in growths
constexpr int kCompression = 2;

Tensor beside(const Tensor& a, const Tensor& b) { return concat({a, b}, 3); }
Bounds beside(const Bounds& a, const Bounds& b) { return concat(a, b, 3); }
}  // namespace

DenseNet::DenseNet(const NetShape& shape, Init init, InitStream& stream) : shape_(shape) {
  LayerMaker make(shape_, init, stream);
  using Norm = ConvLayer::Norm;
  // As in a wide_resnet: the imagenet stem has a norm of its own.
  stem_.emplace(shape, make, shape.stem == Stem::imagenet ? Norm::batch : Norm::none);
  int channels = shape.stem_width;
  for (size_t s = 0; s < shape.blocks.size(); ++s) {
    const int growth = shape.widths[s];
    std::vector<DenseLayer> layers;
    for (int b = 0; b < shape.blocks[s]; ++b) {
      layers.push_back({BatchNorm(channels), make.routed(kBottleneck * growth, channels, {1}),
                        make.routed(growth, kBottleneck * growth, {3}, Norm::none)});
      channels += growth;
    }
    DenseBlock block{std::move(layers), BatchNorm(channels), std::nullopt};
    if (s + 1 < shape.blocks.size()) {
      require(channels >= kCompression, "a DenseNet's transition needs at least two channels");
      block.transition = make.shared(channels / kCompression, channels, {1}, Norm::none);
      channels /= kCompression;
    }
    blocks_.push_back(std::move(block));
  }
  head_ = make.linear(shape.outputs, channels);
}

template <class X, class How>
X DenseNet::wired(const X& x, const How& how) const {
  X y = stem_->forward(x, how);
  for (const DenseBlock& block : blocks_) {
    for (const DenseLayer& layer : block.layers) {
      const X seen = run(layer.norm, y, how, Activation::relu);
      const X narrow = run(layer.narrow, seen, how, {}, Activation::relu);
      y = beside(y, run(layer.grow, narrow, how, {}, Activation::none));
    }
    y = run(block.norm, y, how, Activation::relu);
    if (block.transition)
      y = avg_pool2d(run(*block.transition, y, how, {}, Activation::none), 2, 2);
  }
  return global_avg_pool(y);
}

Tensor DenseNet::forward(const Tensor& x, const Pass& pass) const {
  return head_.forward(wired(x, pass));
}
Bounds DenseNet::features(const Bounds& x, const ExpertPath& path) const { return wired(x, path); }
const Linear& DenseNet::head(const ExpertPath&) const { return head_; }

void DenseNet::visit(Visitor& v) {
  stem_->conv.visit(v, "features.conv0", "features.norm0");
  for (size_t s = 0; s < blocks_.size(); ++s) {
    DenseBlock& block = blocks_[s];
    for (size_t i = 0; i < block.layers.size(); ++i) {
      DenseLayer& layer = block.layers[i];
      const std::string at = text("features.denseblock", s + 1, ".denselayer", i + 1, ".");
      v.child(at + "norm1", layer.norm);
      layer.narrow.visit(v, at + "conv1", at + "norm2");
      layer.grow.visit(v, at + "conv2", "");
    }
    const std::string transition = text("features.transition", s + 1, ".");
    v.child(block.transition ? transition + "norm" : text("features.norm", s + 2), block.norm);
    if (block.transition) block.transition->visit(v, transition + "conv", "");
  }
  v.child("classifier", head_);
}

Macs DenseNet::macs(int height, int width) const {
  MacCounter count(height, width);
  count.stem(*stem_, shape_.stem);
  for (const DenseBlock& block : blocks_) {
    for (const DenseLayer& layer : block.layers) {
      count.run(layer.narrow);
      count.run(layer.grow);
    }
    if (!block.transition) continue;
    count.run(*block.transition);
    count.pool(2, 2, 0);
  }
  count.run(head_);
  return count.macs();
}

}  // namespace moat::models
