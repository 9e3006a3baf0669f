#include "models/classifier.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {

constexpr const char* kRouter = "router.";

std::vector<int> scaled(const std::vector<int>& widths, double ratio) {
  std::vector<int> out;
  out.reserve(widths.size());
  for (int width : widths) out.push_back(static_cast<int>(ratio * width));
  return out;
}

Tensor per_channel(const std::vector<double>& values, double missing, int channels) {
  if (values.empty()) return Tensor::full({channels}, missing);
  return Tensor::from(std::vector<float>(values.begin(), values.end()), {channels});
}

}  // namespace

ResNetShape net_shape(const ClassifierSettings& s) {
  return {.blocks = s.blocks,
          .widths = scaled(s.widths, s.ratio),
          .stem_width = s.scaled_stem ? static_cast<int>(s.ratio * s.stem_width) : s.stem_width,
          .in_channels = s.channels,
          .outputs = s.classes,
          .shortcut = s.shortcut,
          .experts = s.experts};
}

ResNetShape router_shape(const ClassifierSettings& s) {
  return {.blocks = s.router_blocks,
          .widths = s.router_widths,
          .stem_width = s.router_widths.at(0),
          .in_channels = s.channels,
          .outputs = s.experts,
          .shortcut = Shortcut::pad,
          .experts = 1};
}

Classifier::Classifier(const ClassifierSettings& s, uint64_t seed, Device device)
    : settings_(s),
      mean_(per_channel(s.mean, 0, s.channels)),
      deviation_(per_channel(s.deviation, 1, s.channels)) {
  require(s.experts >= 1,
          [&] { return text("a model needs at least one expert, got ", s.experts); });
  InitStream stream{.seed = seed};
  net_.emplace(net_shape(s), s.init, stream);
  if (s.experts > 1) {
    InitStream router_stream{.seed = seed, .next = 1 << 16};
    router_.emplace(router_shape(s), Init::uniform, router_stream);
    if (s.score_norm) score_norm_.emplace(s.experts, BatchNorm::Affine::no);
  }
  move_to(*this, device);
}

Tensor Classifier::normalized(const Tensor& images) const {
  const Tensor x = div(sub(images, mean_), deviation_);
  return activations == x.dtype() ? x : cast(x, activations);
}

Tensor Classifier::scores_of(const Tensor& x, Mode mode) const {
  const Tensor scores = router_->forward(x, mode, nullptr);
  const Tensor plain = scores.dtype() == Dtype::bf16 ? cast(scores, Dtype::f32) : scores;
  return score_norm_ ? score_norm_->forward(plain, mode) : plain;
}

Tensor Classifier::logits_along(const Tensor& x, const Tensor& experts, const Tensor& gate,
                                Mode mode) const {
  Route route{sort_by_expert(experts, settings_.experts), {}};
  const Tensor& order = route.segments.order;
  if (gate.defined()) route.gate = gather_rows(gate, order);
  const Tensor sorted = net_->forward(gather_rows(x, order), mode, &route);
  return gather_rows(sorted, route.segments.inverse);
}

Prediction Classifier::forward(const Tensor& images, Mode mode, GateGradient gradient) const {
  const Tensor x = normalized(images);
  Prediction out;
  if (!router_) {
    out.logits = net_->forward(x, mode, nullptr);
  } else {
    out.scores = scores_of(x, mode);
    out.experts = argmax(out.scores.detached(), 1);
    Tensor gate;
    if (gradient == GateGradient::open)
      gate = straight_through_gate(out.scores, out.experts, settings_.gate);
    out.logits = logits_along(x, out.experts, gate, mode);
  }
  if (out.logits.dtype() == Dtype::bf16) out.logits = cast(out.logits, Dtype::f32);
  return out;
}

Tensor Classifier::forward_along(const Tensor& images, const Tensor& experts, Mode mode) const {
  require(is_routed(), "forward_along: a dense model has no routes");
  const Tensor logits = logits_along(normalized(images), experts, {}, mode);
  return logits.dtype() == Dtype::bf16 ? cast(logits, Dtype::f32) : logits;
}

void Classifier::visit(Visitor& v) {
  v.buffer("normalize.mean", mean_);
  v.buffer("normalize.std", deviation_);
  net_->visit(v);
  if (router_) v.child("router", *router_);
  if (score_norm_) v.child("router.score_norm", *score_norm_);
}

std::vector<NamedTensor> Classifier::router_parameters() {
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : parameters_of(*this))
    if (t.name.starts_with(kRouter)) out.push_back(t);
  return out;
}

std::vector<NamedTensor> Classifier::expert_parameters() {
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : parameters_of(*this))
    if (!t.name.starts_with(kRouter)) out.push_back(t);
  return out;
}

Classifier::Cost Classifier::cost() const {
  const Macs net = net_->macs(settings_.height, settings_.width);
  Cost cost{.path = net.path, .router = 0, .all_experts = net.all_experts};
  if (router_) cost.router = router_->macs(settings_.height, settings_.width).path;
  cost.all_experts += cost.router;
  return cost;
}

}  // namespace moat::models
