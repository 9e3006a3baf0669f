#include "models/token_moe.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/gate_losses.h"
#include "engine/ops/linalg.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {

constexpr double kDeviation = 0.02;     // of the initial weights, as in ViT
constexpr int kMostSegments = 1 << 13;  // of one routing by group and expert
constexpr int kCapacityMultiple = 4;

// step · floor(i / length) for i = 0 … count - 1, in float64; kept in `made`, the shorter ones as
// well, because recorded steps read them where they lie.
Tensor staircase(Tensors& made, int64_t count, int64_t length, int64_t step, Device device) {
  if (made.empty() || made.back().size() < count) {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i / length * step));
    made.push_back(Tensor::from(values, {count}, device));
  }
  return made.back().sliced(0, 0, count);
}

Gate sliced(const Gate& gate, int64_t from, int64_t to) {
  const auto part = [&](const Tensor& t) { return t.defined() ? slice(t, 0, from, to) : t; };
  return {.weights = part(gate.weights),
          .experts = part(gate.experts),
          .log_sum_exp = part(gate.log_sum_exp),
          .margin = part(gate.margin),
          .noisy_logits = part(gate.noisy_logits),
          .deviation = gate.deviation};
}

}  // namespace

int capacity_of(const TokenExperts& s, int64_t tokens) {
  const double choices = s.capacity * static_cast<double>(tokens) * s.active / s.experts;
  const auto whole = static_cast<int64_t>(std::ceil(choices));
  return to_int((whole + kCapacityMultiple - 1) / kCapacityMultiple * kCapacityMultiple);
}

TokenMoe::TokenMoe(const TransformerShape& shape, int width, int layer, InitStream& stream)
    : settings_(shape.moe), activation_(shape.activation), layer_(layer) {
  const int64_t experts = settings_.experts, hidden = kMlpFactor * int64_t{width};
  require(settings_.active >= 1 && settings_.active <= experts, [&] {
    return text("from 1 to ", experts, " experts can be active for a token, got ",
                settings_.active);
  });
  router_ = init_normal({experts, width}, kDeviation, stream);
  fc1_ = init_normal({experts, hidden, width}, kDeviation, stream);
  bias1_ = Tensor::zeros({experts, hidden});
  fc2_ = init_normal({experts, width, hidden}, kDeviation, stream);
  bias2_ = Tensor::zeros({experts, width});
}

void TokenMoe::visit(Visitor& v) {
  v.parameter("router.weight", router_);
  v.parameter("experts.fc1.weight", fc1_);
  v.parameter("experts.fc1.bias", bias1_);
  v.parameter("experts.fc2.weight", fc2_);
  v.parameter("experts.fc2.bias", bias2_);
}

GateOptions TokenMoe::gate_options(const Pass& pass, int64_t tokens) const {
  if (pass.mode == Mode::eval || !pass.noise || settings_.noise == 0) return {};
  const Tensor first = scale(pass.noise->ids.to(Dtype::f64), static_cast<double>(tokens));
  const Tensor token = staircase(token_numbers_, tokens, 1, 1, router_.device());
  const Tensor samples = add(first.reshaped({first.size(), 1}), token.reshaped({1, tokens}));
  return {.noise = {.deviation = settings_.noise / settings_.experts,
                    .key = {.seed = pass.noise->seed,
                            .purpose = Purpose::gate_noise,
                            .iteration = pass.noise->iteration,
                            .stream = static_cast<uint32_t>(layer_)},
                    // Modulo 2^32: ids of 11 million and 196 tokens are beyond.
                    .samples = samples.reshaped({samples.size()}).to(Dtype::i64).to(Dtype::i32)}};
}

// [images · tokens, active]: 1 for a choice that its expert has room for. Groups are told apart by
// numbering experts anew in each; the last one may be smaller and has the capacity of a whole one.
Tensor TokenMoe::kept(const Gate& gate, int64_t images, int64_t tokens) const {
  const int64_t group = settings_.group > 0 ? settings_.group : images;
  const int64_t experts = settings_.experts, rows = images * tokens;
  const int capacity = capacity_of(settings_, group * tokens);
  const int64_t at_once = std::max<int64_t>(1, kMostSegments / experts) * group;  // images
  Tensors parts;
  for (int64_t from = 0; from < images; from += at_once) {
    const int64_t count = std::min(at_once, images - from);
    const Tensor first = staircase(first_experts_, count, group, experts, router_.device());
    const Tensor own = gate.experts.sliced(0, from * tokens, (from + count) * tokens);
    const Tensor numbered = add(own.to(Dtype::f64).reshaped({count, tokens, settings_.active}),
                                first.reshaped({count, 1, 1}));
    const Routing routing =
        route_tokens(numbered.to(Dtype::i32).reshaped(own.shape()),
                     to_int((count + group - 1) / group * experts),
                     {.capacity = capacity,
                      .priority = settings_.priority == Priority::best_gate
                                      ? gate.weights.detached()
                                            .sliced(0, from * tokens, (from + count) * tokens)
                                            .sliced(1, 0, 1)
                                            .contiguous()
                                            .reshaped({count * tokens})
                                      : Tensor{}});
    parts.push_back(sign(affine(routing.slot_of.to(gate.weights.dtype()), 1, 1)));
  }
  return parts.empty()
             ? Tensor::zeros({rows, settings_.active}, gate.weights.dtype(), gate.weights.device())
             : concat(parts, 0);
}

Tensors TokenMoe::losses(const Tensor& logits, const Gate& gate, int64_t size) const {
  const double weights[kernels::kGateLosses] = {settings_.importance, settings_.load,
                                                settings_.balance, 0};
  const int64_t rows = logits.dim(0);
  Tensors each;
  for (int64_t from = 0; from < rows; from += size) {
    const int64_t to = std::min(rows, from + size);
    const Tensor found = gate_losses(slice(logits, 0, from, to), sliced(gate, from, to));
    Tensor total;
    for (int64_t i = 0; i < kernels::kGateLosses; ++i) {
      if (weights[i] == 0) continue;
      const Tensor term = scale(reshape(slice(found, 0, i, i + 1), Shape{}), weights[i]);
      total = total.defined() ? add(total, term) : term;
    }
    if (total.defined()) each.push_back(total);
  }
  return each;
}

Tensor TokenMoe::auxiliary(const Tensor& logits, const Gate& gate, int64_t tokens,
                           GateLosses of) const {
  if (of == GateLosses::of_images) {
    Tensors each = losses(logits, gate, tokens);
    for (Tensor& image : each) image = reshape(image, {1});
    return each.empty() ? Tensor{} : concat(each, 0);
  }
  const Tensors groups =
      losses(logits, gate, settings_.group > 0 ? settings_.group * tokens : logits.dim(0));
  Tensor total;
  for (const Tensor& group : groups) {
    const Tensor part = scale(group, 1.0 / static_cast<double>(groups.size()));
    total = total.defined() ? add(total, part) : part;
  }
  return total;
}

TokenRanks TokenMoe::ranks(const Tensor& logits, const Tensor& room, const GateOptions& options,
                           int64_t tokens) const {
  const Gate all = topk_gate(logits, settings_.experts, engine::GateForm::softmax_topk, options);
  const int64_t images = logits.dim(0) / tokens;
  const auto own = std::find(settings_.blocks.begin(), settings_.blocks.end(), layer_);
  const Shape each = {images, tokens, settings_.experts},
              first = {images, tokens, settings_.active};
  return {.layer = to_int(own - settings_.blocks.begin()),
          .experts = all.experts.reshaped(each),
          .weights = reshape(all.weights, each),
          .room = room.defined()
                      ? room.reshaped(first)
                      : Tensor::full(first, 1, all.weights.dtype(), all.weights.device())};
}

Tensor TokenMoe::forward(const Tensor& x, const Pass& pass) const {
  const int64_t images = x.dim(0), tokens = x.dim(1);
  const Tensor rows = reshape(x, {images * tokens, x.dim(2)});
  const Tensor seen = pass.gate == GateGradient::open ? rows : rows.detached();
  const Tensor plain = seen.dtype() == Dtype::bf16 ? cast(seen, Dtype::f32) : seen;
  const Tensor logits = linear(plain, router_, {});
  const GateOptions options = gate_options(pass, tokens);
  const Gate gate = topk_gate(logits, settings_.active, engine::GateForm::softmax_topk, options);
  Tensor experts = gate.experts, weights = gate.weights, room;
  const int64_t group = settings_.group > 0 ? settings_.group : images;
  if (settings_.capacity > 0 && capacity_of(settings_, group * tokens) < group * tokens) {
    room = kept(gate, images, tokens);
    weights = mul(weights, room);
  }
  if (pass.choose) {
    const TokenChoices choices = (*pass.choose)(ranks(logits, room, options, tokens));
    experts = reshape(choices.experts, experts.shape());
    weights = reshape(choices.weights, weights.shape());
  }
  const Routing routing = route_tokens(experts, settings_.experts);
  const Tensor hidden =
      expert_activation(grouped_gemm(rows, fc1_, bias1_, routing, Rows::gathered), activation_);
  const Tensor y =
      combine_rows(grouped_gemm(hidden, fc2_, bias2_, routing, Rows::sorted), weights, routing);
  if (pass.gates) {
    Tensor placed = gate.experts;
    if (room.defined()) {  // (e + 1) · room - 1
      const Tensor next = affine(placed.to(room.dtype()), 1, 1);
      placed = affine(mul(next, room), 1, -1).to(Dtype::i32);
    }
    pass.gates->chosen.push_back(gate.experts.reshaped({images, tokens, settings_.active}));
    pass.gates->experts.push_back(placed.reshaped({images, tokens, settings_.active}));
    pass.gates->margins.push_back(gate.margin.reshaped({images, tokens}));
    const Tensor term = auxiliary(logits, gate, tokens, pass.losses);
    Tensor& total = pass.gates->auxiliary;
    if (term.defined()) total = total.defined() ? add(total, term) : term;
  }
  return reshape(y, x.shape());
}

int64_t TokenMoe::macs(int64_t tokens, int experts) const {
  const int64_t expert = (fc1_.size() + fc2_.size()) / settings_.experts;
  return tokens * (router_.size() + expert * experts);
}

}  // namespace moat::models
