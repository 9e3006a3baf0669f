#include "train/certify/attacked.h"

#include "train/certify/certification_state.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {

void require_consistent(const Evaluation& e, const data::ImageSet& set, double eps,
                        const Certification& proven) {
  for (size_t i = 0; i < proven.images.size(); ++i)
    require(e.samples[i].is_robust(set.labels[i]) ||
                proven.images[i].certified_for(set.labels[i]) < eps,
            [&] {
              return text("image ", set.ids[i], " is proven to be right within eps ", eps, ", and ",
                          e.protocol.name, " fooled it there: the proof or the arithmetic of the ",
                          "model is wrong; please report it");
            });
}

}  // namespace

void attack_radii(models::Classifier& model, const data::ImageSet& set,
                  const RadiiUnderAttack& radii, SavedState& state, Certification& c) {
  require(c.resisted.size() <= radii.eps.size(), [&] {
    return text("the state of a certification was attacked at ", c.resisted.size(), " radii of ",
                radii.eps.size());
  });
  while (c.resisted.size() < radii.eps.size()) {
    const double eps = radii.eps[c.resisted.size()];
    const attacks::Protocol protocol =
        attacks::find_protocol(radii.protocol, {Norm::linf, eps}, radii.seed, attack_model(model));
    EvaluationSettings settings{.stop_requested = radii.stop_requested};
    if (!radii.folder.empty()) settings.state = radii.folder / "attack.safetensors";
    if (radii.progress)
      settings.progress = [&](const EvaluationStanding& at) {
        radii.progress(std::ssize(c.resisted), at);
      };
    const Evaluation evaluation = evaluate(model, set, protocol, settings);
    require_consistent(evaluation, set, eps, c);
    c.resisted.push_back(evaluation.robust_correct(set));
    // First, because the next radius's is that of another protocol.
    if (!settings.state.empty()) std::filesystem::remove(settings.state);
    state.keep(tensors_of(c));
  }
}

}  // namespace moat::train
