#pragma once

#include <vector>

#include "models/conv_net.h"

namespace moat::models {

// VGG with batch norm (Simonyan & Zisserman 2015) as it is used on CIFAR-10 and in the AdvMoE
// release, or on ImageNet in torchvision: stages of 3x3 convolutions, a max-pool between stages,
// then a pool, three linear layers (VggHead) and no dropout, which torchvision has in training.
// Every convolution but the first is an MoE convolution when the net has experts. Tensors are
// named as in torchvision: features.N, classifier.N, where N does not count dropouts.
class Vgg : public Net {
 public:
  Vgg(const NetShape& shape, Init init, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;
  Macs macs(int height, int width) const override;

 private:
  template <class X, class How>
  X wired(const X& x, const How& how) const;  // up to the head

  VggHead form_;
  std::vector<std::vector<engine::ConvLayer>> stages_;
  std::vector<engine::Linear> head_;
};

}  // namespace moat::models
