#include "train/evaluate.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "models/checkpoint.h"
#include "train/objective.h"
#include "train/saved_state.h"

namespace moat::train {

using namespace engine;

namespace {

// Whose state a state is.
std::map<std::string, std::string> identity_of(const models::Classifier& model,
                                               uint64_t fingerprint, const data::ImageSet& set,
                                               const attacks::Protocol& protocol) {
  return {{"model", std::to_string(fingerprint)},
          {"architecture", models::architecture_json(model.settings())},
          {"data set", data::content_hash(set)},
          {"protocol", attacks::constants_of(protocol).dump()},
          {"kind of device", model.device().is_cpu() ? "cpu" : "cuda"}};
}

EvaluationStanding standing(const attacks::ProtocolRun& run) {
  const auto& attacks = run.protocol().attacks;
  const int stage = run.stage();
  return {.stage = stage < 0                     ? "clean"
                   : stage < std::ssize(attacks) ? attacks[size_t(stage)].name
                                                 : "verdict",
          .images_done = run.images_done(),
          .images = run.images_of_stage(),
          .correct = run.count_correct(),
          .robust = run.count_robust(),
          .passes_done = run.passes_done(),
          .passes_left = run.passes_left()};
}

struct Stopped {};  // within a batch

// Asks whether to go on, and tells how far it is, before every pass of a model: an attack on one
// batch can take hours on a CPU. A recorded pass asks nobody.
class WithinBatch {
 public:
  explicit WithinBatch(const EvaluationSettings& settings) : settings_(settings) {}

  attacks::Model watched(attacks::Model model) {
    const auto watch = [this](auto& function) {
      if (function)
        function = [this, inner = function](const Tensor& images, const auto&... more) {
          before_pass(images.shape()[0]);
          return inner(images, more...);
        };
    };
    watch(model.forward);
    watch(model.randomised);
    watch(model.auxiliary);
    watch(model.along);
    return model;
  }

  void begin_batch(const attacks::ProtocolRun& run) {
    run_ = &run;
    passes_ = 0;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void before_pass(int64_t images) {
    if (run_->is_before_verdict() && settings_.stop_requested && settings_.stop_requested())
      throw Stopped{};
    passes_ += Tape::active() ? 2 * images : images;  // a backward pass follows
    if (!settings_.progress || Clock::now() - told_ < std::chrono::milliseconds(500)) return;
    told_ = Clock::now();
    EvaluationStanding at = standing(*run_);
    at.passes_done += passes_;
    at.passes_left = std::max<int64_t>(0, at.passes_left - passes_);
    settings_.progress(at);
  }

  const EvaluationSettings& settings_;
  const attacks::ProtocolRun* run_ = nullptr;
  int64_t passes_ = 0;  // of images, since the batch began
  Clock::time_point told_ = Clock::now();
};

}  // namespace

int64_t Evaluation::clean_correct(const data::ImageSet& set) const {
  int64_t n = 0;
  for (size_t i = 0; i < samples.size(); ++i) n += samples[i].is_correct(set.labels[i]);
  return n;
}

int64_t Evaluation::robust_correct(const data::ImageSet& set) const {
  int64_t n = 0;
  for (size_t i = 0; i < samples.size(); ++i) n += samples[i].is_robust(set.labels[i]);
  return n;
}

int64_t Evaluation::robust_after(size_t attack, const data::ImageSet& set) const {
  int64_t n = 0;
  for (size_t i = 0; i < samples.size(); ++i)
    n += samples[i].is_correct(set.labels[i]) &&
         (samples[i].fooled_by < 0 || samples[i].fooled_by > static_cast<int>(attack));
  return n;
}

Evaluation evaluate(models::Classifier& model, const data::ImageSet& set,
                    const attacks::Protocol& protocol, const EvaluationSettings& settings) {
  require(settings.batch >= 1,
          [&] { return text("eval.batch must be at least 1, got ", settings.batch); });
  Evaluation e;
  e.protocol = protocol;
  e.fingerprint_before = fingerprint(model);
  const data::Batch all = data::batch_of(set);
  WithinBatch within(settings);
  attacks::ProtocolRun run(within.watched(attack_model(model)),
                           {all.images, all.labels, all.ids, {}}, protocol, settings.batch,
                           model.device());
  SavedState state(settings.state, identity_of(model, e.fingerprint_before, set, protocol));
  state.restore([&](const SavedState::Tensors& found) { run.restore(found); });
  while (!run.is_done()) {
    within.begin_batch(run);
    bool stop = false;
    try {
      run.run_batch();
      if (settings.progress) settings.progress(standing(run));
      stop = settings.stop_requested && settings.stop_requested();
    } catch (const Stopped&) {
      stop = true;
    }
    if (!run.is_before_verdict()) continue;
    if (stop || state.is_due() || !run.is_attacking()) state.keep(run.state());
    require(!stop, [&] {
      return text("stopped ",
                  run.stage() < 0      ? "before the attacks"
                  : run.is_attacking() ? "in the attack '" + standing(run).stage + "'"
                                       : "before the verdict",
                  settings.state.empty() ? "" : "; the same command goes on from here");
    });
  }
  e.samples = run.result().samples;
  e.spent = run.result().spent;
  e.adversarial = run.result().adversarial;
  e.forwards = run.result().forwards;
  e.backwards = run.result().backwards;
  e.fingerprint_after = fingerprint(model);
  e.seconds = state.seconds();
  return e;
}

}  // namespace moat::train
