#pragma once

#include <optional>
#include <vector>

#include "models/token_moe.h"

namespace moat::models {

struct LayerNorm : engine::Module {
  engine::Tensor weight, bias;  // [width]
  explicit LayerNorm(int width);
  engine::Tensor forward(const engine::Tensor& x) const;
  void visit(engine::Visitor& v) override;
};

// A vision transformer (Dosovitskiy et al. 2021): patches, a class token, learned positions, blocks
// of attention and MLP with a layer norm in front of each, a linear head on the class token. The
// MLPs of the blocks named in the shape are mixtures (V-MoE). Tensors are named as in timm.
class VisionTransformer : public Net {
 public:
  VisionTransformer(const NetShape& shape, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;
  Macs macs(int height, int width) const override;

 private:
  struct TransformerBlock {
    LayerNorm norm1, norm2;
    engine::Linear qkv, proj;
    std::optional<engine::Linear> fc1, fc2;
    std::optional<TokenMoe> moe;  // in their place
  };
  engine::Tensor block(const TransformerBlock& block, const engine::Tensor& x,
                       const Pass& pass) const;
  engine::Tensor mlp(const TransformerBlock& block, const engine::Tensor& x,
                     const Pass& pass) const;

  NetShape shape_;
  engine::Tensor patch_, patch_bias_;  // [width, side, side, channels], [width]
  engine::Tensor class_token_;         // [1, 1, width]
  engine::Tensor positions_;           // [1, tokens, width]
  std::vector<TransformerBlock> blocks_;
  std::optional<LayerNorm> norm_;
  engine::Linear head_;
};

}  // namespace moat::models
