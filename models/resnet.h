#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/nn/layers.h"

namespace moat::models {

// How a residual block whose shape changes carries its input over (He et al. 2016, section 4.2):
// projection = 1x1 convolution and batch norm (option B), pad = subsample and zero channels (A).
enum class Shortcut { projection, pad };

// A CIFAR-type residual net of basic blocks: 3x3 stem, stages with strides 1, 2, 2, …, global
// average pool, linear head. With experts > 1 every convolution in a block is an MoE convolution.
struct ResNetShape {
  std::vector<int> blocks;  // per stage
  std::vector<int> widths;  // per stage, of one expert
  int stem_width = 0;
  int in_channels = 3;
  int outputs = 10;
  Shortcut shortcut = Shortcut::projection;
  int experts = 1;
};

// Multiply-accumulates of one image.
struct Macs {
  int64_t path = 0;         // the dense parts and one expert of each MoE convolution
  int64_t all_experts = 0;  // the dense parts and every expert: what the mask-everything form runs
};

// Initial weights: `kaiming` draws convolutions from N(0, 2 / (k² c_out)) with c_out of one expert,
// `kaiming_bank` counts the whole bank (as the AdvMoE release does), both with a head N(0, 0.01);
// `uniform` is PyTorch's default ±1/sqrt(fan_in) everywhere.
enum class Init { kaiming, kaiming_bank, uniform };

class ResNet : public engine::Module {
 public:
  ResNet(const ResNetShape& shape, Init init, engine::InitStream& stream);

  // x [n, h, w, c] -> [n, outputs]; `route` (of the sorted batch) when the net has experts.
  engine::Tensor forward(const engine::Tensor& x, engine::Mode mode,
                         const engine::Route* route) const;
  void visit(engine::Visitor& v) override;

  const ResNetShape& shape() const { return shape_; }
  Macs macs(int height, int width) const;

 private:
  struct Block {
    engine::ConvNorm conv1, conv2;
    std::optional<engine::ConvNorm> downsample;  // option B
    int stride, width;
    engine::Tensor forward(const engine::Tensor& x, engine::Mode mode,
                           const engine::Route* route) const;
  };
  ResNetShape shape_;
  std::optional<engine::ConvNorm> stem_;
  std::vector<std::vector<Block>> stages_;
  engine::Linear head_;
};

}  // namespace moat::models
