#pragma once

#include "engine/nn/init.h"
#include "models/net.h"

namespace moat::models {

// The MLP of a transformer block as a mixture of experts chosen for each token.
class TokenMoe : public engine::Module {
 public:
  // `layer` numbers the mixtures of a net: each draws noise of its own.
  TokenMoe(const TransformerShape& shape, int width, int layer, engine::InitStream& stream);

  // x [n, tokens, width], normalised -> what the block adds to its tokens.
  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const;
  void visit(engine::Visitor& v) override;  // router.weight, experts.fc1.weight, …
  // Of one image, every token seen by so many experts.
  int64_t macs(int64_t tokens, int experts) const;

 private:
  engine::GateOptions gate_options(const Pass& pass, int64_t tokens) const;
  engine::Tensor kept(const engine::Gate& gate, int64_t images, int64_t tokens) const;
  TokenRanks ranks(const engine::Tensor& logits, const engine::Tensor& room,
                   const engine::GateOptions& options, int64_t tokens) const;
  // The weighted losses of each run of `size` rows, as tensors of rank 0; empty without any.
  engine::Tensors losses(const engine::Tensor& logits, const engine::Gate& gate,
                         int64_t size) const;
  engine::Tensor auxiliary(const engine::Tensor& logits, const engine::Gate& gate, int64_t tokens,
                           GateLosses of) const;

  TokenExperts settings_;
  engine::ExpertActivation activation_;
  int layer_;
  engine::Tensor router_;       // [experts, width]
  engine::Tensor fc1_, bias1_;  // [experts, hidden, width], [experts, hidden]
  engine::Tensor fc2_, bias2_;  // [experts, width, hidden], [experts, width]
  // The number of a token in its image, and the number of the first expert of an image's group, as
  // far as they were needed: kept, because a recorded step copies nothing from the host.
  mutable engine::Tensors token_numbers_, first_experts_;
};

// Choices that an expert takes in a group of so many tokens: factor · tokens · active / experts,
// rounded up, then up to a multiple of 4 (V-MoE's release).
int capacity_of(const TokenExperts& settings, int64_t tokens);

}  // namespace moat::models
