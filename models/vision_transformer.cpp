#include "models/vision_transformer.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/attention.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/layer_norm.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {

constexpr double kDeviation = 0.02;  // of the initial weights

Linear make_linear(int outputs, int inputs, InitStream& stream) {
  Linear linear;
  linear.weight = init_normal({outputs, inputs}, kDeviation, stream);
  linear.bias = Tensor::zeros({outputs});
  return linear;
}

// [n, tokens, width] -> [n · tokens, width].
Tensor rows_of(const Tensor& x) { return reshape(x, {x.dim(0) * x.dim(1), x.dim(2)}); }

// [n, tokens, width] -> [n, tokens, outputs], plus the residual if there is one.
Tensor each_token(const Linear& linear, const Tensor& x, const Tensor& residual = {}) {
  const Tensor y = linear.forward(rows_of(x), residual.defined() ? rows_of(residual) : Tensor{});
  return reshape(y, {x.dim(0), x.dim(1), linear.weight.dim(0)});
}

int64_t squared(int64_t side) { return side * side; }

}  // namespace

LayerNorm::LayerNorm(int width) : weight(Tensor::full({width}, 1)), bias(Tensor::zeros({width})) {}

Tensor LayerNorm::forward(const Tensor& x) const { return layer_norm(x, weight, bias); }

void LayerNorm::visit(Visitor& v) {
  v.parameter("weight", weight);
  v.parameter("bias", bias);
}

VisionTransformer::VisionTransformer(const NetShape& shape, InitStream& stream) : shape_(shape) {
  const TransformerShape& t = shape.transformer;
  const int depth = shape.blocks.at(0), width = shape.widths.at(0);
  require(shape.blocks.size() == 1 && shape.experts == 1,
          "a transformer has one stage of blocks and no expert convolutions");
  require(t.heads >= 1 && width % t.heads == 0, [&] {
    return text("a transformer's width must divide among its heads, got ", width, " and ", t.heads);
  });
  require(shape.height % t.patch == 0 && shape.width % t.patch == 0, [&] {
    return text("images of ", shape.height, "x", shape.width, " must divide into patches of ",
                t.patch, "x", t.patch);
  });
  const int64_t patches = int64_t{shape.height / t.patch} * (shape.width / t.patch);
  patch_ = init_normal({width, t.patch, t.patch, shape.in_channels},
                       1 / std::sqrt(double(t.patch) * t.patch * shape.in_channels), stream);
  patch_bias_ = Tensor::zeros({width});
  class_token_ = init_normal({1, 1, width}, kDeviation, stream);
  positions_ = init_normal({1, patches + 1, width}, kDeviation, stream);
  const std::vector<int>& mixtures = t.moe.blocks;
  for (int b = 0; b < depth; ++b) {
    TransformerBlock block{LayerNorm(width),
                           LayerNorm(width),
                           make_linear(3 * width, width, stream),
                           make_linear(width, width, stream),
                           std::nullopt,
                           std::nullopt,
                           std::nullopt};
    if (std::find(mixtures.begin(), mixtures.end(), b) != mixtures.end()) {
      block.moe.emplace(t, width, b, stream);
    } else {
      block.fc1 = make_linear(kMlpFactor * width, width, stream);
      block.fc2 = make_linear(width, kMlpFactor * width, stream);
    }
    blocks_.push_back(std::move(block));
  }
  require(mixtures.empty() || mixtures.back() < depth, [&] {
    return text("a mixture must be one of ", depth, " blocks, got ", mixtures.back());
  });
  norm_.emplace(width);
  head_ = make_linear(shape.outputs, width, stream);
}

// x + mlp(norm2(x))
Tensor VisionTransformer::mlp(const TransformerBlock& block, const Tensor& x,
                              const Pass& pass) const {
  const Tensor normed = block.norm2.forward(x);
  if (block.moe) return add(x, block.moe->forward(normed, pass));
  const Tensor hidden = block.fc1->forward(rows_of(normed));
  const Tensor active = expert_activation(hidden, shape_.transformer.activation);
  return reshape(block.fc2->forward(active, rows_of(x)), x.shape());
}

Tensor VisionTransformer::block(const TransformerBlock& block, const Tensor& x,
                                const Pass& pass) const {
  const Tensor qkv = each_token(block.qkv, block.norm1.forward(x));
  const Tensor attended = attention(qkv, shape_.transformer.heads);
  return mlp(block, each_token(block.proj, attended, x), pass);
}

Tensor VisionTransformer::forward(const Tensor& x, const Pass& pass) const {
  const int64_t n = x.dim(0), width = patch_.dim(0);
  const auto as_x = [&](const Tensor& t) {
    return t.dtype() == x.dtype() ? t : cast(t, x.dtype());
  };
  const Tensor patches = conv2d(x, patch_, {.stride = shape_.transformer.patch});
  const Tensor tokens =
      add(reshape(patches, {n, patches.dim(1) * patches.dim(2), width}), as_x(patch_bias_));
  const Tensor first = add(Tensor::zeros({n, 1, width}, x.dtype(), x.device()), as_x(class_token_));
  Tensor y = add(concat({first, tokens}, 1), as_x(positions_));
  for (const TransformerBlock& b : blocks_) y = block(b, y, pass);
  const Tensor last = reshape(slice(y, 1, 0, 1), {n, width});
  return head_.forward(norm_->forward(last));
}

Bounds VisionTransformer::features(const Bounds&, const ExpertPath&) const {
  throw UsageError(
      "bounds are known for convolutional nets (resnet, wide_resnet, vgg, densenet) and mixtures "
      "of them, a transformer's attention has none; choose such a model");
}
const Linear& VisionTransformer::head(const ExpertPath&) const { return head_; }

void VisionTransformer::visit(Visitor& v) {
  v.parameter("cls_token", class_token_);
  v.parameter("pos_embed", positions_);
  v.parameter("patch_embed.proj.weight", patch_);
  v.parameter("patch_embed.proj.bias", patch_bias_);
  for (size_t b = 0; b < blocks_.size(); ++b) {
    TransformerBlock& block = blocks_[b];
    const std::string at = text("blocks.", b, ".");
    v.child(at + "norm1", block.norm1);
    v.child(at + "attn.qkv", block.qkv);
    v.child(at + "attn.proj", block.proj);
    v.child(at + "norm2", block.norm2);
    if (block.fc1) v.child(at + "mlp.fc1", *block.fc1);
    if (block.fc2) v.child(at + "mlp.fc2", *block.fc2);
    if (block.moe) v.child(at + "moe", *block.moe);
  }
  v.child("norm", *norm_);
  v.child("head", head_);
}

Macs VisionTransformer::macs(int, int) const {
  const int64_t tokens = positions_.dim(1);
  Macs macs;
  for (const bool all : {false, true}) {
    int64_t sum = (tokens - 1) * patch_.size() + head_.weight.size();
    for (const TransformerBlock& block : blocks_) {
      sum += tokens * (block.qkv.weight.size() + block.proj.weight.size());
      sum += 2 * squared(tokens) * patch_.dim(0);  // scores, and their products with v
      if (block.fc1) sum += tokens * (block.fc1->weight.size() + block.fc2->weight.size());
      const TokenExperts& moe = shape_.transformer.moe;
      if (block.moe) sum += block.moe->macs(tokens, all ? moe.experts : moe.active);
    }
    (all ? macs.all_experts : macs.path) = sum;
  }
  return macs;
}

}  // namespace moat::models
