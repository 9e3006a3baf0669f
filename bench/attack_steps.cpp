#include "attacks/pgd.h"
#include "bench/masked_forward.h"
#include "bench/random_learner.h"
#include "bench/step_case.h"
#include "engine/graph.h"
#include "engine/memory.h"
#include "engine/ops/loss.h"
#include "engine/tape.h"
#include "train/objective.h"

namespace moat::bench {

namespace {

using engine::Tensor;

// The second run on a GPU records what the first one did, as a training step does.
class Replayed {
 public:
  Replayed(engine::Device device, std::function<void()> function)
      : device_(device), function_(std::move(function)) {}

  void run() {
    if (!engine::can_record_graphs(device_) || !has_run_) {
      function_();
      has_run_ = true;
    } else {
      if (!graph_)
        graph_ =
            std::make_unique<engine::Graph>(device_, engine::make_memory_pool(device_), function_);
      graph_->launch();
    }
    engine::synchronize(device_);
  }
  int64_t nodes() const { return graph_ ? graph_->nodes() : 0; }

 private:
  engine::Device device_;
  std::function<void()> function_;
  bool has_run_ = false;
  std::unique_ptr<engine::Graph> graph_;
};

Work replayed(const std::shared_ptr<RandomLearner>& on, double passes,
              const std::function<void(RandomLearner&)>& function) {
  const auto r =
      std::make_shared<Replayed>(on->learner.model.device(), [on, function] { function(*on); });
  return {[r] { r->run(); }, on->set.size(), on->macs({passes, passes}),
          [r] { return r->nodes(); }};
}

Tensor losses(RandomLearner& on, const Tensor& images) {
  return engine::cross_entropy(
      on.learner.forward(images, engine::Mode::eval, models::GateGradient::open, nullptr).logits,
      on.batch.labels);
}
Tensor ones_like(const Tensor& x) { return Tensor::full(x.shape(), 1, x.dtype(), x.device()); }

void forward(RandomLearner& on) {
  const engine::NoTapeScope not_recorded;
  losses(on, on.batch.images);
}

// The forward pass under full_gradient: batch norms are by themselves where weights are variables.
void forward_of_training(RandomLearner& on) {
  engine::Tape tape;
  for (engine::FlatParameters* group : on.learner.groups()) group->watch(tape);
  losses(on, on.batch.images);
}

// What an attack step computes.
void pixel_gradient(RandomLearner& on) {
  engine::Tape tape;
  const Tensor pixels = tape.watch(on.batch.images);
  const Tensor loss = losses(on, pixels);
  tape.gradients(loss, ones_like(loss)).of(pixels);
}

// What it would compute if weights were variables as well, as they are where nobody freezes them.
void full_gradient(RandomLearner& on) {
  engine::Tape tape;
  for (engine::FlatParameters* group : on.learner.groups()) group->watch(tape);
  const Tensor pixels = tape.watch(on.batch.images);
  const Tensor loss = losses(on, pixels);
  const engine::Gradients gradients = tape.gradients(loss, ones_like(loss));
  for (engine::FlatParameters* group : on.learner.groups()) group->collect(gradients);
}

// Every image stays in the batch, whatever becomes of it.
void whole_attack(RandomLearner& on) {
  const attacks::Victims victims{on.batch.images, on.batch.labels, on.batch.ids, {}};
  attacks::pgd(train::attack_model(on.learner.model), victims,
               {.threat = {engine::Norm::linf, 8.0 / 255},
                .steps = on.config.train.steps,
                .keep = attacks::Keep::last});
}

}  // namespace

const std::vector<Case>& attack_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> out;
    for (const std::string model :
         {"resnet18", "moe-resnet18", "vit-small-patch4-32", "v-moe-small-patch4-32"}) {
      const auto add = [&](const char* name, const char* about, auto passes, auto function) {
        out.push_back({model + "-" + name, about, [=](const CaseOptions& o) {
                         const char* preset =
                             model == "moe-resnet18" ? "cifar10-advmoe" : "cifar10-at";
                         return replayed(on_random_images(preset, model, o), passes(o.attack_steps),
                                         function);
                       }});
      };
      add(
          "forward", "logits and loss in evaluation mode", [](int) { return 1.0; }, forward);
      add(
          "forward-of-training", "the same with weights that are variables",
          [](int) { return 1.0; }, forward_of_training);
      add(
          "pixel-gradient", "forward, and backward for the pixels alone: an attack step",
          [](int) { return 2.0; }, pixel_gradient);
      add(
          "full-gradient", "forward, and backward for pixels and weights", [](int) { return 3.0; },
          full_gradient);
      add(
          "pgd", "projected gradient descent", [](int steps) { return 2.0 * steps; }, whole_attack);
    }
    out.push_back({"moe-resnet18-forward-masked", "the same with every expert computed and masked",
                   [](const CaseOptions& o) {
                     const auto on = on_random_images("cifar10-advmoe", "moe-resnet18", o);
                     on->learner.forward = masked_forward(on->learner.model);
                     return replayed(on, 1, forward);
                   }});
    return out;
  }();
  return cases;
}

}  // namespace moat::bench
