#include "attacks/apgd.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "attacks/logit_slopes.h"
#include "attacks/look_cost.h"
#include "engine/ops/apgd.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/random.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr double kMomentum = 0.75;  // 1 in the first step
constexpr double kFirstStep = 2;    // in eps

}  // namespace

std::vector<int> apgd_checkpoints(int steps) {
  const auto percent = [&](int share) {
    return std::max(static_cast<int>(int64_t{steps} * share / 100), 1);
  };
  std::vector<int> checkpoints;
  int window = percent(22);
  for (int at = window; at <= steps; at += window) {
    checkpoints.push_back(at);
    window = std::max(window - percent(3), percent(6));
  }
  return checkpoints;
}

int64_t most_passes(const Apgd& a, int routes) {
  const int runs = std::max(a.targets, 1) * a.restarts;
  return runs * (a.steps * cost_with_gradient(a.objective, routes).passes() +
                 cost_without_gradient(a.objective, routes).passes()) +
         (a.targets > 0);
}

nlohmann::ordered_json constants_of(const Apgd& a) {
  nlohmann::ordered_json constants = {
      {"steps", a.steps},
      {"first step", kFirstStep * a.threat.eps},
      {"checkpoints", apgd_checkpoints(a.steps)},
      {"rho", a.rho},
      {"momentum", kMomentum},
      {"momentum of the first step", 1},
      {"restarts", a.restarts},
      {"start", a.threat.norm == Norm::linf ? "uniform, scaled to the ball's surface, in the box"
                                            : "normal, scaled to the sphere, in the box"},
      {"keep", "worst of all iterates and the start"}};
  if (a.targets > 0) {
    constants["targets"] = a.targets;
    constants["target classes"] = "by falling clean logit, from the largest of a wrong class";
  }
  constants.update(constants_of(a.objective));
  constants["seed"] = a.seed;
  return constants;
}

namespace {

Tensor start_point(const Victims& v, const ThreatModel& threat, uint64_t seed, int run) {
  const RandomKey key{
      .seed = seed, .purpose = Purpose::attack_start, .stream = static_cast<uint32_t>(run)};
  const Shape& shape = v.images.shape();
  if (threat.norm == Norm::l2)
    return ball_step(v.images, random_normal(shape, v.ids, key, 0, 1), v.images,
                     {.norm = Norm::l2, .eps = threat.eps, .step = threat.eps});
  const int64_t n = shape[0], pixels = n ? v.images.size() / n : 0;
  const Tensor drawn = random_uniform(shape, v.ids, key, -1, 1).reshaped({n, pixels}),
               largest = max(abs(drawn), 1).reshaped({n, 1}),
               offset = scale(div(drawn, largest), threat.eps);
  return ball_project(add(v.images, offset.reshaped(shape)), v.images, threat.norm, threat.eps);
}

// One start, numbered `run`, on the images that `worst` calls not fooled.
void climb(const Model& model, const Victims& victims, const Apgd& a, int run,
           const WorstPoints& worst, AttackResult& result) {
  Survivors survivors(victims, worst);
  const std::vector<int> checkpoints = apgd_checkpoints(a.steps);
  auto check = checkpoints.begin();
  int last_check = 0;
  Tensor x = start_point(survivors.victims(), a.threat, a.seed, run), previous = x;
  ApgdProgress progress;
  for (int i = 0; i <= a.steps && survivors.size() > 0; ++i) {
    const bool is_last = i == a.steps;
    const int number = run * (a.steps + 1) + i;
    const auto look = is_last ? without_gradient : with_gradient;
    Probe p = look(model, x, survivors.victims(), a.objective,
                   {.seed = a.seed, .iteration = static_cast<uint32_t>(number)});
    result.forwards += p.forwards;
    result.backwards += p.backwards;
    survivors.look(x, p, number,
                   {&x, &previous, &p.gradient, &p.loss, &progress.step, &progress.best_points,
                    &progress.best_gradient, &progress.best_loss, &progress.last_loss,
                    &progress.checked_loss, &progress.rises, &progress.halved});
    if (is_last) break;
    const bool is_check = check != checkpoints.end() && *check == i;
    if (i == 0)
      progress = apgd_progress(x, p.gradient, p.loss, kFirstStep * a.threat.eps);
    else
      update(progress, x, p.gradient, p.loss, is_check ? i - last_check : 0, a.rho);
    if (is_check) last_check = *check++;
    const Tensor next =
        apgd_step(x, previous, p.gradient, survivors.victims().images, progress.step,
                  {a.threat.norm, a.threat.eps, i == 0 ? 1 : kMomentum});
    previous = std::exchange(x, next);
  }
}

// For each of the `targets` largest logits of wrong classes, first the largest: the class of each
// image, int32 [n].
Tensors target_classes(const Tensor& logits, const Tensor& labels, int targets) {
  const auto classes = static_cast<size_t>(logits.dim(1));
  const auto z = logits.to(Dtype::f32).to_vector<float>();
  const auto right = labels.to_vector<int32_t>();
  std::vector<std::vector<int32_t>> by_rank(std::min(static_cast<size_t>(targets), classes - 1));
  for (size_t i = 0; i < right.size(); ++i) {
    const std::vector<int32_t> order = ranking({z.data() + i * classes, classes}, right[i]);
    for (size_t rank = 0; rank < by_rank.size(); ++rank) by_rank[rank].push_back(order[rank]);
  }
  Tensors targets_of;
  for (const auto& ranked : by_rank) targets_of.push_back(index_of(ranked, logits.device()));
  return targets_of;
}

}  // namespace

AttackResult apgd(const Model& model, const Victims& victims, const Apgd& a) {
  require(a.steps >= 1 && a.restarts >= 1 && a.targets >= 0 && a.threat.eps >= 0, [&] {
    return text("apgd: steps and restarts must be >= 1, targets and eps >= 0, got ", a.steps, ", ",
                a.restarts, ", ", a.targets, " and ", a.threat.eps);
  });
  require(a.targets == 0 || a.objective.loss == Loss::dlr_targeted, [&] {
    return text("apgd: with targets the loss must be ", name_of(Loss::dlr_targeted), ", got ",
                name_of(a.objective.loss));
  });
  AttackResult result;
  const WorstPoints worst = worst_points(victims.images);
  Tensors targets = {victims.targets};
  if (a.targets > 0) {
    const NoTapeScope not_recorded;
    targets = target_classes(model.forward(victims.images, a.objective.gate).logits, victims.labels,
                             a.targets);
    result.forwards += victims.size();
  }
  int run = 0;
  for (const Tensor& target : targets) {
    Victims aimed = victims;
    aimed.targets = target;
    for (int restart = 0; restart < a.restarts; ++restart)
      climb(model, aimed, a, run++, worst, result);
  }
  result.adversarial = worst.points;
  result.fooled_at = worst.fooled_at.to_vector<int32_t>();
  return result;
}

}  // namespace moat::attacks
