#include "models/resnet.h"

#include <string>

namespace moat::models {

using namespace engine;

namespace {
constexpr int kExpansion = 4;  // of a bottleneck's last convolution

int stride_of(size_t stage, int block) { return stage > 0 && block == 0 ? 2 : 1; }
}  // namespace

ResNet::ResidualBlock ResNet::make_block(LayerMaker& make, int c_in, int width, int stride) const {
  const bool is_basic = shape_.block == Block::basic;
  ResidualBlock block{{}, std::nullopt, stride, is_basic ? width : width * kExpansion};
  if (is_basic) {
    block.convs.push_back(make.routed(width, c_in, {3, stride}));
    block.convs.push_back(make.routed(width, width, {3}));
  } else {
    block.convs.push_back(make.routed(width, c_in, {1}));
    block.convs.push_back(make.routed(width, width, {3, stride}));
    block.convs.push_back(make.routed(block.width, width, {1}));
  }
  if (shape_.shortcut == Shortcut::projection && (stride != 1 || c_in != block.width))
    block.downsample = shape_.stem == Stem::imagenet ? make.routed(block.width, c_in, {1, stride})
                                                     : make.shared(block.width, c_in, {1, stride});
  return block;
}

ResNet::ResNet(const NetShape& shape, Init init, InitStream& stream) : shape_(shape) {
  LayerMaker make(shape_, init, stream);
  stem_.emplace(shape, make, ConvLayer::Norm::batch);
  int c_in = shape.stem_width;
  for (size_t s = 0; s < shape.blocks.size(); ++s) {
    auto& stage = stages_.emplace_back();
    for (int b = 0; b < shape.blocks[s]; ++b) {
      ResidualBlock block = make_block(make, c_in, shape.widths[s], stride_of(s, b));
      require(shape.shortcut == Shortcut::projection || block.width >= c_in, [&] {
        return text("a pad shortcut (option A) can only add channels, stage ", s + 1, " has ",
                    block.width, " after ", c_in);
      });
      c_in = block.width;
      stage.push_back(std::move(block));
    }
  }
  head_ = make.linear(shape.outputs, c_in);
}

template <class X, class How>
X ResNet::ResidualBlock::wired(const X& x, const How& how) const {
  X shortcut = x;
  if (downsample)
    shortcut = run(*downsample, x, how, {}, Activation::none);
  else if (stride != 1 || x.dim(3) != width)
    shortcut = subsample_pad(x, stride, width);
  X y = x;
  for (const ConvLayer& conv : convs)
    y = run(conv, y, how, &conv == &convs.back() ? shortcut : X{}, Activation::relu);
  return y;
}

template <class X, class How>
X ResNet::wired(const X& x, const How& how) const {
  X y = stem_->forward(x, how);
  for (const auto& stage : stages_)
    for (const ResidualBlock& block : stage) y = block.wired(y, how);
  return global_avg_pool(y);
}

Tensor ResNet::forward(const Tensor& x, const Pass& pass) const {
  return head_.forward(wired(x, pass));
}
Bounds ResNet::features(const Bounds& x, const ExpertPath& path) const { return wired(x, path); }
const Linear& ResNet::head(const ExpertPath&) const { return head_; }

void ResNet::visit(Visitor& v) {
  stem_->visit(v);
  for (size_t s = 0; s < stages_.size(); ++s)
    for (size_t b = 0; b < stages_[s].size(); ++b) {
      ResidualBlock& block = stages_[s][b];
      const std::string at = text("layer", s + 1, ".", b, ".");
      for (size_t i = 0; i < block.convs.size(); ++i)
        block.convs[i].visit(v, text(at, "conv", i + 1), text(at, "bn", i + 1));
      if (block.downsample) block.downsample->visit(v, at + "downsample.0", at + "downsample.1");
    }
  v.child("fc", head_);
}

Macs ResNet::macs(int height, int width) const {
  MacCounter count(height, width);
  count.stem(*stem_, shape_.stem);
  for (const auto& stage : stages_)
    for (const ResidualBlock& block : stage) {
      for (const ConvLayer& conv : block.convs) count.run(conv);
      if (block.downsample) count.beside(*block.downsample);
    }
  count.run(head_);
  return count.macs();
}

}  // namespace moat::models
