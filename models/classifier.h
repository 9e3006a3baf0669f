#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "models/settings.h"

namespace moat::models {

struct Prediction {
  engine::Tensor logits;  // [n, classes]
  // [n, routes], of a dual model the sum of its routers' scores; undefined for a dense net.
  engine::Tensor scores;
  engine::Tensor experts;  // int32 [n], below routes(); undefined for a dense net
  TokenGates tokens;       // of a net with token gates
};

struct Dual;

enum class Part { experts, router };  // of a mixture: all of the net but its router, and that

// Pixels in [0,1] -> logits: normaliser, then a dense net, or a router that picks experts for each
// image. The batch is sorted by expert once, each expert runs on its segment, and the order of the
// logits is restored at the end. Or two such models and their average.
class Classifier : public engine::Module {
 public:
  // Drawn on the CPU and moved: the same weights on every device.
  Classifier(const ClassifierSettings& settings, uint64_t seed, engine::Device device = {})
      : Classifier(settings, engine::InitStream{.seed = seed}, device) {}
  // Throws when each of its nets has more parameters than the stream's budget.
  Classifier(const ClassifierSettings& settings, const engine::InitStream& init,
             engine::Device device = {});
  ~Classifier() override;
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;

  // `noise` for the token gates of a net that has them, in training.
  Prediction forward(const engine::Tensor& images, engine::Mode mode,
                     GateGradient gate = GateGradient::open, const GateSeed* noise = nullptr) const;
  // In evaluation, `choose` choosing the experts of each token in the place of a net's own gates.
  // Throws for a model that does not route tokens.
  Prediction forward_choosing(const engine::Tensor& images, const ChooseTokens& choose) const;
  // What the router alone says to images, [n, experts]. Throws without one.
  engine::Tensor scores(const engine::Tensor& images, engine::Mode mode) const;
  // As forward() along a given route, int32 [n] below routes(): one expert per image, or one of
  // each of a dual model's mixtures; with `gate`, [n], as a factor of what each chosen expert
  // gives. Throws for a dense model, and for a dual one with a gate.
  engine::Tensor forward_along(const engine::Tensor& images, const engine::Tensor& experts,
                               engine::Mode mode, const engine::Tensor& gate = {}) const;

  // Bounds in evaluation over boxes of pixels, float64 [n, height, width, channels] on the CPU: of
  // z_a - z_b of one expert's logits for every pair of classes, [n, classes, classes], and of
  // s_i - s_j of the router's scores for every pair of experts, [n, experts, experts]. Throw for a
  // dual model, whose two models have them, and for a vit.
  engine::Differences logit_differences(const engine::Bounds& images, int expert) const;
  engine::Differences score_differences(const engine::Bounds& images) const;
  // The router as a function of the pixels, where it is a linear one: weight [experts, height ·
  // width · channels] and bias, float64 on the CPU, with normaliser and score norm folded in.
  std::optional<engine::Linear> linear_router() const;

  // The weighted auxiliary losses of each image's token gates by themselves, [n], as a function of
  // its pixels in evaluation. Throws without such losses.
  engine::Tensor auxiliary_losses(const engine::Tensor& images) const;

  void visit(engine::Visitor& v) override;
  const ClassifierSettings& settings() const { return settings_; }
  bool is_routed() const;
  // Whether an image's logits are those of several routes, weighed, so that it has no one route.
  bool has_soft_gate() const;
  bool has_token_gates() const;
  bool has_auxiliary_losses() const;  // of token gates, in evaluation
  // Whether a gate chooses experts anywhere, for images or for tokens.
  bool has_gates() const;
  // The ways an image can take: experts; of a dual model the ways of `standard`, each with those of
  // `robust`: route s · (ways of robust) + r; 1 for a dense net.
  int routes() const;
  // False when a pass reads results on the host, so that no graph can be recorded of it.
  bool can_be_recorded() const;
  engine::Device device() const;

  // The two models of a dual one, and its logits from theirs; throw for another.
  Classifier& standard();
  Classifier& robust();
  const Classifier& standard() const;
  const Classifier& robust() const;
  engine::Tensor average(const engine::Tensor& standard, const engine::Tensor& robust) const;

  // Parameters of the router and of everything else, the two levels of AdvMoE.
  std::vector<engine::NamedTensor> router_parameters();
  std::vector<engine::NamedTensor> expert_parameters();

  struct Cost {
    int64_t path = 0, router = 0, all_experts = 0;  // multiply-accumulates of one image
    int64_t executed() const { return path + router; }
  };
  Cost cost() const;
  int router_pool() const { return router_ ? router_->pool() : 1; }

  // Whatever mode a pass has, batch norms of this part use their running statistics from now on,
  // and leave them as they are.
  void freeze(Part part);

  // Number format of activations: f32, or bf16 with float32 weights, scores and logits.
  void set_activations(engine::Dtype dtype);

 private:
  engine::Mode mode_of(Part part, engine::Mode pass) const;
  engine::Tensor normalized(const engine::Tensor& images) const;
  engine::Bounds normalized(const engine::Bounds& images) const;
  Dual& dual() const;  // throws for another
  engine::Tensor logits_along(const engine::Tensor& x, const engine::Tensor& experts,
                              const engine::Tensor& gate, engine::Mode mode) const;
  engine::Tensor weighted_logits(const engine::Tensor& x, const engine::Tensor& scores,
                                 engine::Mode mode) const;
  Prediction averaged(const engine::Tensor& images, engine::Mode mode, GateGradient gate) const;
  engine::Tensor averaged_along(const engine::Tensor& images, const engine::Tensor& experts,
                                engine::Mode mode) const;

  ClassifierSettings settings_;
  engine::Dtype activations_ = engine::Dtype::f32;
  std::optional<Part> frozen_;
  engine::Tensor mean_, deviation_;  // [channels]
  std::unique_ptr<Net> net_;
  std::optional<Router> router_;
  std::unique_ptr<Dual> dual_;
};

}  // namespace moat::models
