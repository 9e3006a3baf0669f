#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "engine/optim/flat.h"
#include "models/classifier.h"
#include "train/config.h"
#include "train/weight_average.h"

namespace moat::train {

struct StepSettings;

// A model with its optimizer state: everything a step changes. Parameters form two groups, the two
// levels of AdvMoE: `experts` is all of the net but its router, which may be fixed. The groups of a
// dual model are those of its two models, each a learner by itself.
struct Learner {
 private:
  std::unique_ptr<models::Classifier> own_;  // none of a part of a dual model

 public:
  models::Classifier& model;
  std::optional<engine::FlatParameters> experts, router;
  std::unique_ptr<Learner> standard, robust;  // of a dual model
  std::optional<WeightAverage> average;       // where somebody keeps one

  // How a step runs the model: model.forward(). A benchmark puts another form of it here.
  using Forward = std::function<models::Prediction(const engine::Tensor& images, engine::Mode,
                                                   models::GateGradient, const models::GateSeed*)>;
  Forward forward;

  Learner(const models::ClassifierSettings& settings, uint64_t seed, engine::Device device = {});
  explicit Learner(models::Classifier& part);  // must outlive the learner
  Learner(const Learner&) = delete;            // the rest points into the model

  std::vector<engine::FlatParameters*> groups();  // experts, router; of standard, of robust
  std::vector<std::string> group_names() const;   // "experts", "standard.router", …
  std::vector<double> learning_rates(const StepSettings& step) const;  // of each of groups()
  // From now on no step changes this part, its running statistics included: it is no group.
  void freeze(models::Part part);
  // Before the first step: freezes what train.update leaves out, sets the format of activations,
  // and makes what the settings need beside the model: AdamW's second moment, an average.
  void prepare(const Config& config);

 private:
  void make_groups();
};

// What the loop tells a step.
struct StepSettings {
  const TrainSettings& train;
  uint64_t seed = 0;
  int epoch = 0;
  int64_t iteration = 0;  // since the start of the run
  double learning_rate = 0, router_learning_rate = 0;
};

// What a step tells the loop. Sums over images, so that steps add up to an epoch.
struct StepStatistics {
  double loss = 0;  // of the last update of the step, summed over images
  int64_t images = 0, clean_correct = 0, robust_correct = 0;
  int64_t clean_seen = 0;      // images whose clean prediction the step computed anyway
  std::vector<int64_t> usage;  // images per expert
  void add(const StepStatistics& other);
};

// A loss, a score, a gradient or a parameter stopped being finite: the learner is of no more use,
// what is on disk is.
class Diverged : public engine::NotFinite {
 public:
  using engine::NotFinite::NotFinite;
};

}  // namespace moat::train
