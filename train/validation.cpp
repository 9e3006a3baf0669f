#include "train/validation.h"

#include "attacks/protocol_run.h"
#include "train/training_attack.h"

namespace moat::train {

bool is_validated_after(const Config& config, int epoch) {
  return epoch % config.eval.validation_every == 0 || epoch == 1 || epoch == config.train.epochs;
}

Validation validate_on(const Learner& learner, const data::ImageSet& set, const Config& config) {
  const attacks::ThreatModel threat{attacks::norm_named(config.train.norm, "train.norm"),
                                    config.train.eps};
  const attacks::Model model = attack_model(learner);
  attacks::Protocol protocol = attacks::find_protocol("pgd-10@1", threat, config.run.seed, model);
  for (attacks::NamedAttack& attack : protocol.attacks)
    std::get<attacks::Pgd>(attack.attack).steps = config.eval.validation_steps;
  attacks::ProtocolRun run(model, victims_of(data::batch_of(set)), protocol, config.eval.batch,
                           learner.model.device());
  while (!run.is_done()) run.run_batch();
  const auto n = static_cast<double>(set.size());
  return {static_cast<double>(run.count_correct()) / n,
          static_cast<double>(run.count_robust()) / n};
}

}  // namespace moat::train
