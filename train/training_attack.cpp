#include "train/training_attack.h"

#include "engine/tape.h"
#include "train/token_room.h"

namespace moat::train {

using namespace engine;
using attacks::Gate;
using models::GateGradient;

namespace {

template <class Forward>
attacks::Model attacked(const models::Classifier& model, Forward forward) {
  attacks::Model seen{
      .forward =
          [forward](const Tensor& images, Gate gate) {
            const models::Prediction p =
                forward(images, Mode::eval,
                        gate == Gate::open ? GateGradient::open : GateGradient::blocked, nullptr);
            return attacks::Outputs{p.logits, p.experts, p.scores};
          },
      .routed = model.has_gates()};
  if (model.has_auxiliary_losses())
    seen.auxiliary = [&model](const Tensor& images) { return model.auxiliary_losses(images); };
  if (model.is_routed()) {
    seen.routes = model.routes();
    seen.is_soft = model.has_soft_gate();
    seen.along = [&model](const Tensor& images, const Tensor& experts) {
      return model.forward_along(images, experts, Mode::eval);
    };
  }
  return seen;
}

}  // namespace

attacks::Model attack_model(const models::Classifier& model) {
  require_no_company(model.settings());
  return attacked(model, [&model](const auto&... args) { return model.forward(args...); });
}

attacks::Model attack_model(const Learner& learner) {
  return attacked(learner.model, learner.forward);
}

attacks::Victims victims_of(const data::Batch& batch) {
  return {batch.images, batch.labels, batch.ids, {}, batch.other_labels, batch.weight};
}

Gate training_gate(const StepSettings& step) {
  if (step.train.gate == "alternate") return step.iteration % 2 ? Gate::blocked : Gate::open;
  return step.train.gate == "through" ? Gate::open : Gate::blocked;
}

Tensor training_pgd(const attacks::Model& model, const attacks::Victims& victims,
                    const attacks::Objective& objective, const StepSettings& step,
                    const AttackNumber& number) {
  const NoTapeScope not_recorded;
  const bool is_kl = objective.loss == attacks::Loss::kl_divergence;
  const double eps = step.train.eps;
  // The draws of each epoch and round are their own: two rounds per epoch share no counter.
  return attacks::pgd(
             model, victims,
             {.threat = {.norm = attacks::norm_named(step.train.norm, "train.norm"), .eps = eps},
              .steps = step.train.steps,
              .step = step.train.step > 0 ? step.train.step : eps / 4,
              .start = is_kl ? attacks::Start::gaussian : attacks::Start::uniform,
              .objective = objective,
              .keep = attacks::Keep::last,
              .seed = step.seed,
              .iteration = static_cast<uint32_t>(2 * step.epoch + number.round + 1),
              .stream = number.stream})
      .adversarial;
}

Tensor training_attack(const Learner& learner, const data::Batch& batch, attacks::Loss loss,
                       const StepSettings& step, int round) {
  const NoTapeScope not_recorded;
  const attacks::Model model = attack_model(learner);
  attacks::Victims victims = victims_of(batch);
  const Gate gate = training_gate(step);
  if (loss == attacks::Loss::kl_divergence)
    victims.reference = model.forward(batch.images, gate).logits;
  const double auxiliary = step.train.attack_auxiliary;
  return training_pgd(model, victims, {.loss = loss, .gate = gate, .auxiliary = auxiliary}, step,
                      {round});
}

Tensor training_attack_along(const Learner& learner, const data::Batch& batch, const Tensor& routes,
                             const StepSettings& step, uint32_t stream) {
  // Path::given would run the mixture as well in every step, for a verdict that nobody asks for.
  const attacks::Model alone{.forward = [&](const Tensor& images, Gate) {
    return attacks::Outputs{learner.model.forward_along(images, routes, Mode::eval)};
  }};
  return training_pgd(alone, victims_of(batch), {}, step, {0, stream});
}

}  // namespace moat::train
