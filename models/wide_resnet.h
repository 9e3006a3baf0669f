#pragma once

#include <optional>
#include <vector>

#include "models/conv_net.h"

namespace moat::models {

// A net of pre-activation blocks, norm and ReLU in front of each convolution: a wide residual net
// (Zagoruyko & Komodakis 2016) or a pre-activation ResNet (He et al. 2016, arXiv 1603.05027), which
// differ in their stages alone. These have strides 1, 2, 2, …; behind them are norm and ReLU,
// global average pool, linear head. Every convolution behind the stem is an MoE convolution when
// the net has experts. Tensors are named as in RobustBench's WideResNet: block1.layer.0.conv1, …,
// convShortcut.
class WideResNet : public Net {
 public:
  WideResNet(const NetShape& shape, Init init, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;
  Macs macs(int height, int width) const override;

 private:
  struct PreActivationBlock {
    engine::BatchNorm norm;                     // bn1
    engine::ConvLayer conv1, conv2;             // conv1 with bn2, conv2 without a norm
    std::optional<engine::ConvLayer> shortcut;  // 1x1, where the shape changes
    template <class X, class How>
    X wired(const X& x, const How& how, Transition transition) const;
  };
  template <class X, class How>
  X wired(const X& x, const How& how) const;  // up to the head

  NetShape shape_;
  std::optional<StemLayers> stem_;
  std::vector<std::vector<PreActivationBlock>> stages_;
  std::optional<engine::BatchNorm> norm_;  // none with HeadNorm::none
  engine::Linear head_;
};

}  // namespace moat::models
