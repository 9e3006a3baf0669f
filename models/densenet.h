#pragma once

#include <optional>
#include <vector>

#include "models/conv_net.h"

namespace moat::models {

// DenseNet-BC (Huang et al. 2017): each layer of a block sees all maps before it, narrows them to
// 4 times its growth by a 1x1 and adds `growth` maps by a 3x3; a transition halves channels and
// resolution between blocks. Norm and ReLU stand in front of every convolution. The convolutions of
// the layers are MoE convolutions when the net has experts, the transitions are shared, as in the
// AdvMoE release. Tensors are named as in torchvision: features.denseblock1.denselayer1.norm1, ….
class DenseNet : public Net {
 public:
  DenseNet(const NetShape& shape, Init init, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;
  Macs macs(int height, int width) const override;

 private:
  struct DenseLayer {
    engine::BatchNorm norm;          // norm1
    engine::ConvLayer narrow, grow;  // conv1 with norm2, conv2 without a norm
  };
  struct DenseBlock {
    std::vector<DenseLayer> layers;
    engine::BatchNorm norm;                       // of the transition, or the last one
    std::optional<engine::ConvLayer> transition;  // none behind the last block
  };
  template <class X, class How>
  X wired(const X& x, const How& how) const;  // up to the head

  NetShape shape_;
  std::optional<StemLayers> stem_;
  std::vector<DenseBlock> blocks_;
  engine::Linear head_;
};

}  // namespace moat::models
