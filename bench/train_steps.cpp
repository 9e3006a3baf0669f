#include "bench/masked_forward.h"
#include "bench/random_learner.h"
#include "bench/step_case.h"
#include "data/catalog.h"
#include "data/loader.h"
#include "train/methods.h"
#include "train/recorded_step.h"

namespace moat::bench {

namespace {

// The presets block the attack's gradient at the gate: it does not reach the router.

// PGD and the update after it.
Passes at_passes(int attack_steps) { return {2.0 * attack_steps + 3, 1.0 * attack_steps + 3}; }
// Both levels of AdvMoE: the clean reference, the attack, and TRADES on two batches. The upper
// level has no gradient of the experts' filters, the lower one none of the router.
Passes advmoe_passes(int attack_steps) {
  return {2 * (1 + 2.0 * attack_steps) + 2 * 3 + 2 * 2, 2 * (1.0 + attack_steps) + 2 * 3 + 2};
}

struct Recorded {
  std::shared_ptr<RandomLearner> on;
  train::RecordedStep step;
  Recorded(std::shared_ptr<RandomLearner> learner, train::Step method)
      : on(std::move(learner)), step(on->learner, method) {}
};

// `run` is a repeat.
Work work_of(const std::shared_ptr<Recorded>& r, const Passes& passes, std::function<void()> run) {
  return {std::move(run), r->on->set.size(), r->on->macs(passes), [r] { return r->step.nodes(); }};
}

Work one_step(std::shared_ptr<RandomLearner> on, train::Step method, const Passes& passes) {
  const auto r = std::make_shared<Recorded>(std::move(on), method);
  return work_of(r, passes, [r] { r->step.run(r->on->batch, r->on->step()); });
}

Work digits_epoch(const CaseOptions& options) {
  const auto r = std::make_shared<Recorded>(
      std::make_shared<RandomLearner>("digits-at", "digits-resnet",
                                      data::load({}, data::Split::train), options),
      train::at_step);
  return work_of(r, at_passes(options.attack_steps), [r, options] {
    const data::Loader loader(r->on->set,
                              {.batch = options.batch, .seed = 0, .device = options.device});
    data::Epoch batches = loader.epoch(0);
    for (const data::Batch& batch : batches) r->step.run(batch, r->on->step());
  });
}

Work advmoe(const CaseOptions& options, bool masked) {
  const auto on = on_random_images("cifar10-advmoe", "moe-resnet18", options);
  if (masked) on->learner.forward = masked_forward(on->learner.model);
  return one_step(on, train::advmoe_step, advmoe_passes(options.attack_steps));
}

}  // namespace

const std::vector<Case>& train_cases() {
  static const std::vector<Case> cases = {
      {"digits-at-epoch", "an epoch of PGD adversarial training of the small net on the digits",
       digits_epoch},
      {"resnet18-at-step", "PGD and train step of ResNet-18 on images of 32x32",
       [](const CaseOptions& o) {
         return one_step(on_random_images("cifar10-at", "resnet18", o), train::at_step,
                         at_passes(o.attack_steps));
       }},
      {"moe-resnet18-at-step", "the same of MoE-ResNet-18 (N=2, r=0.5): AT (MoE)",
       [](const CaseOptions& o) {
         return one_step(on_random_images("cifar10-at", "moe-resnet18", o), train::at_step,
                         at_passes(o.attack_steps));
       }},
      {"vit-small-at-step", "PGD and train step of ViT-S with patches of 4 on images of 32x32",
       [](const CaseOptions& o) {
         return one_step(on_random_images("cifar10-at", "vit-small-patch4-32", o), train::at_step,
                         at_passes(o.attack_steps));
       }},
      {"v-moe-small-at-step", "the same of V-MoE-S (8 experts, 2 a token, every other block)",
       [](const CaseOptions& o) {
         return one_step(on_random_images("cifar10-at", "v-moe-small-patch4-32", o), train::at_step,
                         at_passes(o.attack_steps));
       }},
      {"advmoe-iteration", "an AdvMoE iteration of MoE-ResNet-18",
       [](const CaseOptions& o) { return advmoe(o, false); }},
      {"advmoe-iteration-masked", "the same, every expert computed and masked",
       [](const CaseOptions& o) { return advmoe(o, true); }},
  };
  return cases;
}

}  // namespace moat::bench
