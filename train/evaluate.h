#pragma once

#include <filesystem>
#include <functional>

#include "attacks/protocol_run.h"
#include "data/image_set.h"
#include "models/classifier.h"

namespace moat::train {

// A protocol run over a data set.
struct Evaluation {
  attacks::Protocol protocol;
  std::vector<attacks::SampleResult> samples;  // in the set's order
  std::vector<attacks::Spent> spent;           // per attack
  engine::Tensor adversarial;                  // [n, h, w, c], the worst point of each image
  int64_t forwards = 0, backwards = 0;         // images
  double seconds = 0;
  uint64_t fingerprint_before = 0, fingerprint_after = 0;  // of the model's tensors

  int64_t clean_correct(const data::ImageSet& set) const;
  int64_t robust_correct(const data::ImageSet& set) const;
  // Images that are right clean and not fooled by the attacks up to and including this one.
  int64_t robust_after(size_t attack, const data::ImageSet& set) const;
};

struct EvaluationStanding {
  std::string stage;                         // "clean", the name of an attack, "verdict"
  int64_t images_done = 0, images = 0;       // of the stage
  int64_t correct = 0, robust = 0;           // so far
  int64_t passes_done = 0, passes_left = 0;  // forward and backward, of images; left: an estimate
};

struct EvaluationSettings {
  int batch = 256;
  // Kept here every minute while attacks run and after them, and read when it is there at the
  // start: an evaluation that was killed goes on to the same bits. Who asked for it removes it once
  // the result is safe. Empty: nothing is kept.
  std::filesystem::path state = {};
  std::function<void(const EvaluationStanding&)> progress =
      {};  // told after each batch, and within it
  // Asked before every pass of the model: keep what whole batches found, and throw.
  std::function<bool()> stop_requested = {};
};

// Throws when it was asked to stop, when the state it finds is of another model, architecture, data
// set, protocol or kind of device, and UsageError for a model whose images depend on one another.
Evaluation evaluate(models::Classifier& model, const data::ImageSet& set,
                    const attacks::Protocol& protocol, const EvaluationSettings& settings = {});

}  // namespace moat::train
