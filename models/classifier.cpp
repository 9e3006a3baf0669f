#include "models/classifier.h"

#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/routing.h"
#include "engine/ops/shape.h"
#include "models/network_bank.h"

namespace moat::models {

using namespace engine;

struct Dual {
  Classifier standard, robust;
};

namespace {

constexpr const char* kRouter = "router.";
// The two models of a dual one start apart.
constexpr uint64_t kOtherSeed = 0x9E3779B97F4A7C15;

Tensor per_channel(const std::vector<double>& values, double missing, int channels) {
  if (values.empty()) return Tensor::full({channels}, missing);
  return Tensor::from(std::vector<float>(values.begin(), values.end()), {channels});
}

Tensor as_f32(const Tensor& x) { return x.dtype() == Dtype::bf16 ? cast(x, Dtype::f32) : x; }

// log((1 - alpha) e^p + alpha e^q), finite wherever p or q is.
Tensor log_of_average(const Tensor& p, const Tensor& q, double alpha) {
  if (alpha == 0 || alpha == 1) return alpha == 0 ? p : q;
  const Tensor a = affine(p, 1, std::log(1 - alpha)), b = affine(q, 1, std::log(alpha));
  const Tensor larger = maximum(a, b);
  return add(larger, log(add(exp(sub(a, larger)), exp(sub(b, larger)))));
}

}  // namespace

Classifier::Classifier(const ClassifierSettings& s, const InitStream& init, Device device)
    : settings_(s) {
  if (s.dual) {
    InitStream other = init;
    other.seed ^= kOtherSeed;
    dual_ = std::make_unique<Dual>(Dual{Classifier(s.dual->standard, init, device),
                                        Classifier(s.dual->robust, other, device)});
    return;
  }
  require(s.experts >= 1,
          [&] { return text("a model needs at least one expert, got ", s.experts); });
  require(s.active >= 1 && s.active <= s.experts, [&] {
    return text("from 1 to ", s.experts, " experts can be active for an image, got ", s.active);
  });
  mean_ = per_channel(s.mean, 0, s.channels);
  deviation_ = per_channel(s.deviation, 1, s.channels);
  InitStream stream = init;
  net_ = s.experts > 1 && s.experts_are == Experts::networks
             ? std::make_unique<NetworkBank>(net_shape(s), s.experts, s.init, stream)
             : make_net(net_shape(s), s.init, stream);
  const Macs macs = net_->macs(s.height, s.width);  // refuses images that are too small
  if (s.experts > 1) {
    InitStream router_stream = init;
    router_stream.next = 1 << 16;
    router_.emplace(s.router, Router::Images{s.height, s.width, s.channels}, s.experts, macs.path,
                    router_stream);
  }
  move_to(*this, device);
}

Classifier::~Classifier() = default;
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;

Tensor Classifier::normalized(const Tensor& images) const {
  const Tensor x = div(sub(images, mean_), deviation_);
  return activations_ == x.dtype() ? x : cast(x, activations_);
}

Bounds Classifier::normalized(const Bounds& images) const {
  const Tensor mean = mean_.to(Device{}).to(Dtype::f64),
               deviation = deviation_.to(Device{}).to(Dtype::f64);
  const Tensor one = Tensor::full(mean.shape(), 1, Dtype::f64);
  return affine(affine(images, one, scale(mean, -1)), div(one, deviation), scale(one, 0));
}

Mode Classifier::mode_of(Part part, Mode pass) const { return frozen_ == part ? Mode::eval : pass; }

Tensor Classifier::logits_along(const Tensor& x, const Tensor& experts, const Tensor& gate,
                                Mode mode) const {
  Route route{sort_by_expert(experts, settings_.experts), {}};
  const Tensor& order = route.segments.order;
  if (gate.defined()) route.gate = gather_rows(gate, order);
  const Tensor sorted =
      net_->forward(gather_rows(x, order), {.mode = mode_of(Part::experts, mode), .route = &route});
  return gather_rows(sorted, route.segments.inverse);
}

Tensor Classifier::weighted_logits(const Tensor& x, const Tensor& scores, Mode mode) const {
  const Gate gate = topk_gate(scores, settings_.active, engine::GateForm::softmax_topk_renorm);
  const Routing routing = route_tokens(gate.experts, settings_.experts);
  const Tensor rows = dispatch_rows(reshape(x, {x.dim(0), -1}), routing);
  const Route route{.segments = {{}, {}, routing.offsets}, .gate = {}};
  const Tensor y = net_->forward(reshape(rows, {rows.dim(0), x.dim(1), x.dim(2), x.dim(3)}),
                                 {.mode = mode_of(Part::experts, mode), .route = &route});
  return combine_rows(y, gate.weights, routing);
}

Prediction Classifier::forward(const Tensor& images, Mode mode, GateGradient gradient,
                               const GateSeed* noise) const {
  if (dual_) return averaged(images, mode, gradient);
  const Tensor x = normalized(images);
  Prediction out;
  if (!router_) {
    out.logits = net_->forward(x, {.mode = mode_of(Part::experts, mode),
                                   .gate = gradient,
                                   .noise = noise,
                                   .gates = has_token_gates() ? &out.tokens : nullptr});
  } else {
    out.scores = router_->scores(x, mode_of(Part::router, mode));
    out.experts = argmax(out.scores.detached(), 1);
    const bool is_open = gradient == GateGradient::open;
    if (settings_.active > 1) {
      out.logits = weighted_logits(x, is_open ? out.scores : out.scores.detached(), mode);
    } else {
      const Tensor gate =
          is_open ? straight_through_gate(out.scores, out.experts, settings_.gate) : Tensor{};
      out.logits = logits_along(x, out.experts, gate, mode);
    }
  }
  out.logits = as_f32(out.logits);
  return out;
}

Prediction Classifier::forward_choosing(const Tensor& images, const ChooseTokens& choose) const {
  require(has_token_gates() && !router_,
          "only a net that routes tokens has choices of tokens to replace");
  Prediction out;
  out.logits = as_f32(net_->forward(normalized(images), {.gates = &out.tokens, .choose = &choose}));
  return out;
}

Tensor Classifier::scores(const Tensor& images, Mode mode) const {
  require(router_.has_value(), "only a mixture with a router of images has scores of its own");
  return router_->scores(normalized(images), mode_of(Part::router, mode));
}

Tensor Classifier::average(const Tensor& standard, const Tensor& robust) const {
  require(dual_ != nullptr, "only a dual model averages two");
  const double alpha = settings_.dual->alpha;
  return settings_.dual->average == Average::logits
             ? add(scale(standard, 1 - alpha), scale(robust, alpha))
             : log_of_average(log_softmax(standard), log_softmax(robust), alpha);
}

Prediction Classifier::averaged(const Tensor& images, Mode mode, GateGradient gate) const {
  const Prediction s = dual_->standard.forward(images, mode, gate),
                   r = dual_->robust.forward(images, mode, gate);
  if (!s.experts.defined() || !r.experts.defined()) {
    const Prediction& routed = s.experts.defined() ? s : r;
    return {average(s.logits, r.logits), routed.scores, routed.experts, {}};
  }
  const int64_t n = images.dim(0), ways = dual_->robust.routes();
  const Tensor experts =
      add(scale(s.experts.to(Dtype::f32), static_cast<double>(ways)), r.experts.to(Dtype::f32))
          .to(Dtype::i32);
  const Tensor scores =
      add(reshape(s.scores, {n, dual_->standard.routes(), 1}), reshape(r.scores, {n, 1, ways}));
  return {average(s.logits, r.logits), reshape(scores, {n, routes()}), experts, {}};
}

Tensor Classifier::averaged_along(const Tensor& images, const Tensor& experts, Mode mode) const {
  const auto along = [&](const Classifier& part, const Tensor& of_part) {
    return part.is_routed() ? part.forward_along(images, of_part, mode)
                            : part.forward(images, mode).logits;
  };
  // floor(route / ways), by a half that keeps the quotient off the integers.
  const int ways = dual_->robust.routes();
  const Tensor route = experts.to(Dtype::f32);
  const Tensor first = affine(route, 1.0 / ways, 0.5 / ways).to(Dtype::i32);
  const Tensor second = sub(route, scale(first.to(Dtype::f32), ways)).to(Dtype::i32);
  return average(along(dual_->standard, first), along(dual_->robust, second));
}

Tensor Classifier::forward_along(const Tensor& images, const Tensor& experts, Mode mode,
                                 const Tensor& gate) const {
  require(is_routed(), "forward_along: a dense model has no routes");
  require(!dual_ || !gate.defined(), "forward_along: a dual model has the gates of its two models");
  if (dual_) return averaged_along(images, experts, mode);
  return as_f32(logits_along(normalized(images), experts, gate, mode));
}

Differences Classifier::logit_differences(const Bounds& images, int expert) const {
  require(!dual_, "logit_differences: a dual model has those of its two models");
  require(expert >= 0 && expert < settings_.experts, [&] {
    return text("logit_differences: the expert must be below ", settings_.experts, ", got ",
                expert);
  });
  const Bounds features = net_->features(normalized(images), {expert});
  const Linear& head = net_->head({expert});
  return linear_differences(features, head.weight, head.bias);
}

Differences Classifier::score_differences(const Bounds& images) const {
  require(router_.has_value(), "score_differences: the model must have a router of its own");
  return router_->score_differences(normalized(images));
}

std::optional<Linear> Classifier::linear_router() const {
  if (!router_ || !router_->is_linear()) return std::nullopt;
  Linear map = router_->head();
  const Tensor mean = mean_.to(Device{}).to(Dtype::f64),
               deviation = deviation_.to(Device{}).to(Dtype::f64);
  const int64_t experts = map.weight.dim(0), channels = mean.size();
  const Tensor weight = div(reshape(map.weight, {experts, -1, channels}), deviation);
  map.bias = sub(map.bias, sum(sum(mul(weight, mean), 2), 1));
  map.weight = reshape(weight, {experts, -1});
  return map;
}

Tensor Classifier::auxiliary_losses(const Tensor& images) const {
  require(has_auxiliary_losses(), "auxiliary losses need token gates, and a weight above 0");
  TokenGates gates;
  net_->forward(normalized(images), {.gates = &gates, .losses = GateLosses::of_images});
  return images.dim(0) > 0 ? gates.auxiliary : Tensor::zeros({0}, Dtype::f32, device());
}

void Classifier::visit(Visitor& v) {
  if (dual_) {
    v.child("standard", dual_->standard);
    v.child("robust", dual_->robust);
    return;
  }
  v.buffer("normalize.mean", mean_);
  v.buffer("normalize.std", deviation_);
  net_->visit(v);
  if (router_) v.child("router", *router_);
}

bool Classifier::is_routed() const { return routes() > 1; }

bool Classifier::has_soft_gate() const {
  return dual_ ? dual_->standard.has_soft_gate() || dual_->robust.has_soft_gate()
               : settings_.active > 1;
}

bool Classifier::has_gates() const {
  if (dual_) return dual_->standard.has_gates() || dual_->robust.has_gates();
  return is_routed() || has_token_gates();
}

bool Classifier::has_auxiliary_losses() const {
  const TokenExperts& moe = settings_.transformer.moe;
  return has_token_gates() && (moe.importance != 0 || moe.balance != 0);
}

bool Classifier::has_token_gates() const { return !settings_.transformer.moe.blocks.empty(); }

int Classifier::routes() const {
  return dual_ ? dual_->standard.routes() * dual_->robust.routes() : settings_.experts;
}

bool Classifier::can_be_recorded() const {
  if (dual_) return dual_->standard.can_be_recorded() && dual_->robust.can_be_recorded();
  return settings_.experts == 1 || settings_.experts_are == Experts::convolutions;
}

Device Classifier::device() const { return dual_ ? dual_->standard.device() : mean_.device(); }

Dual& Classifier::dual() const {
  require(dual_ != nullptr, "only a dual model has a standard and a robust one");
  return *dual_;
}

const Classifier& Classifier::standard() const { return dual().standard; }
const Classifier& Classifier::robust() const { return dual().robust; }
Classifier& Classifier::standard() { return dual().standard; }
Classifier& Classifier::robust() { return dual().robust; }

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
  if (dual_) {
    const Cost s = dual_->standard.cost(), r = dual_->robust.cost();
    return {s.path + r.path, s.router + r.router, s.all_experts + r.all_experts};
  }
  const Macs net = net_->macs(settings_.height, settings_.width);
  const int64_t router = router_ ? router_->macs() : 0;
  return {.path = net.path * settings_.active,
          .router = router,
          .all_experts = net.all_experts + router};
}

void Classifier::freeze(Part part) {
  require(router_.has_value(), "only a mixture with a router of images has parts to freeze");
  frozen_ = part;
}

void Classifier::set_activations(Dtype dtype) {
  activations_ = dtype;
  if (!dual_) return;
  dual_->standard.set_activations(dtype);
  dual_->robust.set_activations(dtype);
}

}  // namespace moat::models
