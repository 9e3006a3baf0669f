#pragma once

#include <optional>
#include <vector>

#include "models/conv_net.h"

namespace moat::models {

// A residual net (He et al. 2016): stem, stages with strides 1, 2, 2, …, global average pool,
// linear head. With experts > 1 every convolution in a block is an MoE convolution; a projection is
// one behind an imagenet stem and shared behind a cifar stem, as in the AdvMoE release.
class ResNet : public Net {
 public:
  ResNet(const NetShape& shape, Init init, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;
  Macs macs(int height, int width) const override;

 private:
  struct ResidualBlock {
    std::vector<engine::ConvLayer> convs;         // the last one adds the shortcut
    std::optional<engine::ConvLayer> downsample;  // option B
    int stride, width;                            // of the output
    template <class X, class How>
    X wired(const X& x, const How& how) const;
  };
  ResidualBlock make_block(LayerMaker& make, int c_in, int width, int stride) const;

  template <class X, class How>
  X wired(const X& x, const How& how) const;  // up to the head

  NetShape shape_;
  std::optional<StemLayers> stem_;
  std::vector<std::vector<ResidualBlock>> stages_;
  engine::Linear head_;
};

}  // namespace moat::models
