#include "models/wide_resnet.h"

#include <string>

namespace moat::models {

using namespace engine;

WideResNet::WideResNet(const NetShape& shape, Init init, InitStream& stream) : shape_(shape) {
  LayerMaker make(shape_, init, stream);
  using Norm = ConvLayer::Norm;
  // The imagenet stem has a norm of its own in front of its pool; the cifar stem's is the first
  // block's.
  stem_.emplace(shape, make, shape.stem == Stem::imagenet ? Norm::batch : Norm::none);
  int c_in = shape.stem_width;
  for (size_t s = 0; s < shape.blocks.size(); ++s) {
    auto& stage = stages_.emplace_back();
    const int width = shape.widths[s];
    for (int b = 0; b < shape.blocks[s]; ++b) {
      const int stride = s > 0 && b == 0 ? 2 : 1;
      PreActivationBlock block{BatchNorm(c_in), make.routed(width, c_in, {3, stride}),
                               make.routed(width, width, {3}, Norm::none), std::nullopt};
      if (stride != 1 || c_in != width)
        block.shortcut = make.routed(width, c_in, {1, stride}, Norm::none);
      stage.push_back(std::move(block));
      c_in = width;
    }
  }
  if (shape.head_norm == HeadNorm::batch) norm_.emplace(c_in);
  head_ = make.linear(shape.outputs, c_in);
}

template <class X, class How>
X WideResNet::PreActivationBlock::wired(const X& x, const How& how, Transition transition) const {
  const bool is_raw = shortcut && transition == Transition::raw;
  const X y = is_raw ? x : run(norm, x, how, Activation::relu);
  const X& projected = transition == Transition::raw_shortcut ? x : y;
  const X carried = shortcut ? run(*shortcut, projected, how, {}, Activation::none) : x;
  const X z = run(conv1, y, how, {}, Activation::relu);
  return run(conv2, z, how, carried, Activation::none);
}

template <class X, class How>
X WideResNet::wired(const X& x, const How& how) const {
  X y = stem_->forward(x, how);
  for (const auto& stage : stages_)
    for (const PreActivationBlock& block : stage) y = block.wired(y, how, shape_.transition);
  return global_avg_pool(norm_ ? run(*norm_, y, how, Activation::relu) : y);
}

Tensor WideResNet::forward(const Tensor& x, const Pass& pass) const {
  return head_.forward(wired(x, pass));
}
Bounds WideResNet::features(const Bounds& x, const ExpertPath& path) const {
  return wired(x, path);
}
const Linear& WideResNet::head(const ExpertPath&) const { return head_; }

void WideResNet::visit(Visitor& v) {
  stem_->conv.visit(v, "conv1", "stem_bn");
  for (size_t s = 0; s < stages_.size(); ++s)
    for (size_t b = 0; b < stages_[s].size(); ++b) {
      PreActivationBlock& block = stages_[s][b];
      const std::string at = text("block", s + 1, ".layer.", b, ".");
      v.child(at + "bn1", block.norm);
      block.conv1.visit(v, at + "conv1", at + "bn2");
      block.conv2.visit(v, at + "conv2", "");
      if (block.shortcut) block.shortcut->visit(v, at + "convShortcut", "");
    }
  if (norm_) v.child("bn1", *norm_);
  v.child("fc", head_);
}

Macs WideResNet::macs(int height, int width) const {
  MacCounter count(height, width);
  count.stem(*stem_, shape_.stem);
  for (const auto& stage : stages_)
    for (const PreActivationBlock& block : stage) {
      count.run(block.conv1);
      count.run(block.conv2);
      if (block.shortcut) count.beside(*block.shortcut);
    }
  count.run(head_);
  return count.macs();
}

}  // namespace moat::models
