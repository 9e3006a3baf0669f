#include "train/validation.h"

#include "train/evaluate.h"
#include "train/objective.h"

namespace moat::train {

bool is_validated_after(const Config& config, int epoch) {
  return epoch % config.eval.validation_every == 0 || epoch == 1 || epoch == config.train.epochs;
}

Validation validate_on(models::Classifier& model, const data::ImageSet& set, const Config& config) {
  const attacks::ThreatModel threat{attacks::norm_named(config.train.norm, "train.norm"),
                                    config.train.eps};
  attacks::Protocol protocol =
      attacks::find_protocol("pgd-10@1", threat, config.run.seed, attack_model(model));
  for (attacks::NamedAttack& attack : protocol.attacks)
    std::get<attacks::Pgd>(attack.attack).steps = config.eval.validation_steps;
  const Evaluation e = evaluate(model, set, protocol, {.batch = config.eval.batch});
  const auto n = static_cast<double>(set.size());
  return {static_cast<double>(e.clean_correct(set)) / n,
          static_cast<double>(e.robust_correct(set)) / n};
}

}  // namespace moat::train
