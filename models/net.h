#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/nn/bounds.h"
#include "engine/ops/experts.h"

namespace moat::models {

// The families of networks; `blocks` and `widths` of a NetShape mean, per stage:
//   resnet         residual blocks and their channels (He et al. 2016; CIFAR and ImageNet stems)
//   wide_resnet    pre-activation blocks and their channels (Zagoruyko & Komodakis 2016)
//   preact_resnet  the same blocks in the stages of a resnet (He et al. 2016, arXiv 1603.05027)
//   vgg            convolutions and their channels (Simonyan & Zisserman 2015, with batch norm)
//   densenet       dense layers and the channels each adds (Huang et al. 2017, DenseNet-BC)
//   vit            blocks and the width of tokens, of one stage (Dosovitskiy et al. 2021)
enum class Family { resnet, wide_resnet, preact_resnet, vgg, densenet, vit };

enum class Block { basic, bottleneck };  // of a resnet: two 3x3, or 1x1, 3x3, 1x1 to 4 times

// What comes before the first stage. cifar: 3x3 at full resolution; imagenet: 7x7 with stride 2 and
// a max-pool of 3x3 with stride 2. A vgg has its first convolution in the cifar form.
enum class Stem { cifar, imagenet };

// What comes behind the last stage of a vgg. cifar: averaged to 2x2, linear layers of 256, 256;
// imagenet: a max-pool, averaged to 7x7, linear layers of 4096, 4096 (torchvision's, without
// dropout).
enum class VggHead { cifar, imagenet };

// How a residual block whose shape changes carries its input over (He et al. 2016, section 4.2):
// projection = 1x1 convolution and batch norm (option B), pad = subsample and zero channels (A).
enum class Shortcut { projection, pad };

// What the first block of a stage of pre-activation blocks gives its first convolution and its
// projection: `activated` norm and ReLU first, as the dense nets of the papers have it; `raw` is
// what the AdvMoE release does in its mixture, where that norm's result is thrown away;
// `raw_shortcut` is what the release of Wong et al. 2020 does, where the projection alone sees the
// block's input.
enum class Transition { activated, raw, raw_shortcut };

// What pre-activation blocks have between the last of them and the average pool: norm and ReLU, or
// nothing, as in checkpoints of Wong et al. 2020.
enum class HeadNorm { batch, none };

// Whose choices find room first where experts have a capacity.
enum class Priority {
  order,      // first choices before second ones, tokens in order
  best_gate,  // tokens by falling weight of their first choice (Batch Prioritized Routing)
};

// MLPs of a transformer that are mixtures, chosen for each token (V-MoE, Riquelme et al. 2021):
// the `active` experts of the largest softmax probabilities, weighted by these as they are.
struct TokenExperts {
  std::vector<int> blocks =
      {};  // whose MLPs they are, from 0, ascending; none: a plain transformer
  int experts = 8, active = 2;
  // An expert takes at most factor · tokens · active / experts choices of a group, rounded up to a
  // multiple of 4; the others are dropped. 0: none is ever dropped.
  double capacity = 0;
  int group = 0;  // images whose tokens share the capacity and the losses; 0: the whole batch
  Priority priority = Priority::order;
  double noise = 1;  // on the logits in training, deviation noise / experts
  double importance = 0.005, load = 0.005, balance = 0;  // weights of the auxiliary losses
};

inline constexpr int kMlpFactor = 4;  // width of a transformer's MLPs, in widths of its tokens

// What a vit has besides blocks and width.
struct TransformerShape {
  int patch = 4;  // pixels a side
  int heads = 3;
  engine::ExpertActivation activation = engine::ExpertActivation::gelu;
  TokenExperts moe = {};
};

// One network, by the widths it really has.
struct NetShape {
  Family family = Family::resnet;
  std::vector<int> blocks, widths;
  int stem_width = 0;
  Block block = Block::basic;
  Stem stem = Stem::cifar;
  Shortcut shortcut = Shortcut::projection;
  Transition transition = Transition::activated;
  HeadNorm head_norm = HeadNorm::batch;
  VggHead vgg_head = VggHead::cifar;
  int in_channels = 3;
  int height = 32, width = 32;  // of the images; a vit has a position for each of their patches
  int outputs = 10;
  int experts = 1;  // filters of every convolution behind the stem
  double kept = 1;  // share of the filters behind the stem that count, by learned scores
  TransformerShape transformer = {};
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

// Whether an input gradient also flows through the gate into the router, or is cut there. The route
// itself is always chosen by the current input.
enum class GateGradient { open, blocked };

// What the noise on token gates is drawn by: a stream per layer, a sample per token of an image.
struct GateSeed {
  uint64_t seed = 0;
  uint32_t iteration = 0;
  engine::Tensor ids;  // int32 [n]
};

// Whose auxiliary losses of token gates are told: the mean over groups, as training has them, or
// those of each image alone, which no company changes.
enum class GateLosses { of_groups, of_images };

// What the gates of tokens did in a pass.
struct TokenGates {
  // Their weighted losses, summed over layers: one number, or [n] of images; undefined without any.
  engine::Tensor auxiliary;
  // Per layer, int32 [n, tokens, active]: the choices, best first, and those that found room; -1:
  // dropped.
  engine::Tensors chosen, experts;
  // Per layer [n, tokens]: by how much the last chosen expert's logit exceeds the next one's; +inf
  // where there is no other.
  engine::Tensors margins;
};

// What a layer's gate says to each token, as somebody sees it who chooses in its place.
struct TokenRanks {
  int layer = 0;           // of the mixtures, from 0
  engine::Tensor experts;  // int32 [n, tokens, experts]: all of them, best first
  engine::Tensor weights;  // [n, tokens, experts]: theirs, which add up to 1
  engine::Tensor room;     // [n, tokens, active]: 1 for each of the first that found room, 0
};

// The experts that compute for each token, and their weights, each [n, tokens, active].
struct TokenChoices {
  engine::Tensor experts, weights;
};
using ChooseTokens = std::function<TokenChoices(const TokenRanks&)>;

// What a forward pass is told besides its images.
struct Pass {
  engine::Mode mode = engine::Mode::eval;
  const engine::Route* route = nullptr;  // of a batch sorted by expert; of a net with experts
  // Of nets with token gates alone:
  GateGradient gate = GateGradient::open;
  const GateSeed* noise = nullptr;       // none without it
  TokenGates* gates = nullptr;           // filled where given, by what the gates themselves say
  const ChooseTokens* choose = nullptr;  // in the gates' place; capacity does not limit it
  GateLosses losses = GateLosses::of_groups;
};

// What bounds of a net are told besides its boxes of images: whose filters, of a net with experts.
struct ExpertPath {
  int expert = 0;
};

// From images [n, h, w, c] to [n, outputs].
class Net : public engine::Module {
 public:
  virtual engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const = 0;
  // Bounds in evaluation of what the last linear layer, `head`, sees, [n, features]. Throws for a
  // net that has no bounds (vit).
  virtual engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const = 0;
  virtual const engine::Linear& head(const ExpertPath& path) const = 0;
  // Throws when images of this size are too small for the net.
  virtual Macs macs(int height, int width) const = 0;
};

std::unique_ptr<Net> make_net(const NetShape& shape, Init init, engine::InitStream& stream);

}  // namespace moat::models
