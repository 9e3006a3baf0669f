#include "models/name_rules.h"

namespace moat::models {

namespace {

constexpr std::string_view kAny, kRobustBench = "robustbench", kRtEr = "rt-er", kTimm = "timm",
                                 kTorchvision = "torchvision", kVMoe = "v-moe";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool matches(std::string_view name, std::string_view pattern, std::vector<std::string_view>& held) {
  if (pattern.empty()) return name.empty();
  const size_t known = held.size();
  const auto rest_matches = [&](size_t length) {
    held.push_back(name.substr(0, length));
    if (matches(name.substr(length), pattern.substr(1), held)) return true;
    held.resize(known);
    return false;
  };
  if (pattern[0] == '#') {
    size_t length = 0;
    while (length < name.size() && is_digit(name[length])) ++length;
    return length > 0 && rest_matches(length);
  }
  if (pattern[0] == '*') {
    for (size_t length = 0; length <= name.size(); ++length)
      if (rest_matches(length)) return true;
    return false;
  }
  return !name.empty() && name[0] == pattern[0] && matches(name.substr(1), pattern.substr(1), held);
}

}  // namespace

std::optional<std::string> renamed(std::string_view name, std::string_view from,
                                   std::string_view to) {
  std::vector<std::string_view> held;
  if (!matches(name, from, held)) return {};
  std::string out;
  size_t next = 0;
  for (char c : to)
    if (c == '#' || c == '*')
      out += held.at(next++);
    else
      out += c;
  return out;
}

const std::vector<std::string_view>& name_prefixes() {
  // The last two are the halves of a dual model of RT-ER's release, each a file by itself.
  static const std::vector<std::string_view> prefixes = {
      "module", "model", "_orig_mod", "state_dict", "params", "target", "Smoe", "Rmoe"};
  return prefixes;
}

const std::vector<NameRule>& name_rules() {
  using enum Layout;
  using enum NameRule::Use;
  static const std::vector<NameRule> table = {
      {kAny, "*num_batches_tracked", "", same, silent},
      {kAny, "normalize.mean", "normalize.mean", per_channel, reading},
      {kAny, "normalize.std", "normalize.std", per_channel, reading},
      {kAny, "mu", "normalize.mean", per_channel, reading},
      {kAny, "sigma", "normalize.std", per_channel, reading},
      {kAny, "normalizer.new_mean", "normalize.mean", per_channel, reading},
      {kAny, "normalizer.new_std", "normalize.std", per_channel, reading},
      {kAny, "attacker.*", ""},

      {kRobustBench, "sub_block1.*", ""},
      {kRobustBench, "linear.*", "fc.*", same, both, kWhole, Family::resnet},
      {kRobustBench, "layer#.#.shortcut.*", "layer#.#.downsample.*", same, both, kWhole,
       Family::resnet},
      {kRobustBench, "linear.*", "fc.*", same, both, kWhole, Family::preact_resnet},
      {kRobustBench, "bn.*", "bn1.*", same, both, kWhole, Family::preact_resnet},
      {kRobustBench, "layer#.#.shortcut.0.*", "block#.layer.#.convShortcut.*", same, both, kWhole,
       Family::preact_resnet},
      {kRobustBench, "layer#.#.*", "block#.layer.#.*", same, both, kWhole, Family::preact_resnet},

      // The heads have dropout between their layers.
      {kTorchvision, "classifier.3.*", "classifier.2.*", same, both, kWhole, Family::vgg},
      {kTorchvision, "classifier.6.*", "classifier.4.*", same, both, kWhole, Family::vgg},
      // Files from before torchvision 0.3.
      {kTorchvision, "features.denseblock#.denselayer#.norm.#.*",
       "features.denseblock#.denselayer#.norm#.*", same, reading},
      {kTorchvision, "features.denseblock#.denselayer#.conv.#.*",
       "features.denseblock#.denselayer#.conv#.*", same, reading},

      {.project = kTimm,
       .theirs = "fc_norm.*",
       .ours = "",
       .refusal = "fc_norm normalises the mean of the tokens, and the transformers here classify "
                  "the class token; take a model with global_pool='token'"},

      {kRtEr, "experts.#.net.linear.*", "experts.#.fc.*", same, both, kWhole, Family::resnet},
      {kRtEr, "experts.#.net.layer#.#.shortcut.*", "experts.#.layer#.#.downsample.*"},
      {kRtEr, "experts.#.net.*", "experts.#.*", same, both, kWhole, Family::resnet},
      {kRtEr, "experts.#.vit.*", "experts.#.*", same, both, kWhole, Family::vit},
      {kRtEr, "router.gate.weight", "router.weight", image_row},
      {kRtEr, "router.gate.bias", "router.bias"},

      // A tree of Flax, '.' or '/' between its keys.
      {kVMoe, "embedding.kernel", "patch_embed.proj.weight", filter_hwio},
      {kVMoe, "embedding.bias", "patch_embed.proj.bias"},
      {kVMoe, "cls", "cls_token"},
      {kVMoe, "Encoder.posembed_input.pos_embedding", "pos_embed"},
      {kVMoe, "Encoder.encoderblock_#.LayerNorm_0.scale", "blocks.#.norm1.weight"},
      {kVMoe, "Encoder.encoderblock_#.LayerNorm_0.bias", "blocks.#.norm1.bias"},
      {kVMoe, "Encoder.encoderblock_#.LayerNorm_1.scale", "blocks.#.norm2.weight"},
      {kVMoe, "Encoder.encoderblock_#.LayerNorm_1.bias", "blocks.#.norm2.bias"},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.query.kernel", "blocks.#.attn.qkv.weight",
       heads_out, both, 0},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.key.kernel", "blocks.#.attn.qkv.weight",
       heads_out, both, 1},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.value.kernel", "blocks.#.attn.qkv.weight",
       heads_out, both, 2},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.query.bias", "blocks.#.attn.qkv.bias",
       heads_bias, both, 0},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.key.bias", "blocks.#.attn.qkv.bias", heads_bias,
       both, 1},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.value.bias", "blocks.#.attn.qkv.bias",
       heads_bias, both, 2},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.out.kernel", "blocks.#.attn.proj.weight",
       heads_in},
      {kVMoe, "Encoder.encoderblock_#.SelfAttention.out.bias", "blocks.#.attn.proj.bias"},
      {kVMoe, "Encoder.encoderblock_#.Mlp.Dense_0.kernel", "blocks.#.mlp.fc1.weight",
       matrix_in_out},
      {kVMoe, "Encoder.encoderblock_#.Mlp.Dense_0.bias", "blocks.#.mlp.fc1.bias"},
      {kVMoe, "Encoder.encoderblock_#.Mlp.Dense_1.kernel", "blocks.#.mlp.fc2.weight",
       matrix_in_out},
      {kVMoe, "Encoder.encoderblock_#.Mlp.Dense_1.bias", "blocks.#.mlp.fc2.bias"},
      {kVMoe, "Encoder.encoderblock_#.Moe.Router.dense.kernel", "blocks.#.moe.router.weight",
       matrix_in_out},
      {kVMoe, "Encoder.encoderblock_#.Moe.Mlp.Dense_0.kernel", "blocks.#.moe.experts.fc1.weight",
       experts_in_out},
      {kVMoe, "Encoder.encoderblock_#.Moe.Mlp.Dense_0.bias", "blocks.#.moe.experts.fc1.bias"},
      {kVMoe, "Encoder.encoderblock_#.Moe.Mlp.Dense_1.kernel", "blocks.#.moe.experts.fc2.weight",
       experts_in_out},
      {kVMoe, "Encoder.encoderblock_#.Moe.Mlp.Dense_1.bias", "blocks.#.moe.experts.fc2.bias"},
      {kVMoe, "Encoder.encoder_norm.scale", "norm.weight"},
      {kVMoe, "Encoder.encoder_norm.bias", "norm.bias"},
      {kVMoe, "head.kernel", "head.weight", matrix_in_out},
      {kVMoe, "head.bias", "head.bias"},
  };
  return table;
}

}  // namespace moat::models
