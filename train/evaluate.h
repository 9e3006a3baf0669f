#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "attacks/protocol.h"
#include "data/image_set.h"
#include "models/classifier.h"

namespace moat::train {

// A protocol run over a data set.
struct Evaluation {
  attacks::Protocol protocol;
  std::vector<attacks::SampleResult> samples;  // in the set's order
  engine::Tensor adversarial;                  // [n, h, w, c], the worst point of each image
  int64_t forwards = 0, backwards = 0;         // images
  double seconds = 0;
  int64_t verified_differently = 0;  // images whose adversarial prediction changed when re-run
                                     // in other batches
  uint64_t fingerprint_before = 0, fingerprint_after = 0;  // of the model's tensors

  int64_t clean_correct(const data::ImageSet& set) const;
  int64_t robust_correct(const data::ImageSet& set) const;
};

// Told after each batch: images done, and how many of them are clean-correct and robust.
using EvaluationProgress = std::function<void(int64_t done, int64_t clean, int64_t robust)>;

Evaluation evaluate(models::Classifier& model, const data::ImageSet& set,
                    const attacks::Protocol& protocol, int batch,
                    const EvaluationProgress& progress = {});

}  // namespace moat::train
