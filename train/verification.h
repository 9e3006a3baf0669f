#pragma once

#include <filesystem>

#include "train/evaluate.h"

namespace moat::train {

// What the stored adversarial images are, found without the code that made them.
struct Verification {
  double largest_linf = 0, largest_l2 = 0;  // distance from the clean images, in float64
  int64_t outside_ball = 0;                 // images farther away than eps: L∞ to the last bit of
                                            // float32 images, L2 within 1e-6 of eps
  int64_t outside_box = 0;                  // images with a pixel not in [0, 1], NaN included
  int64_t changed = 0;                      // images predicted otherwise than the evaluation says
  int64_t contradicted = 0;  // images that count as fooled and were right in its final verdict, or
                             // the reverse
  int64_t robust_as_bytes = 0;  // right images when pixels are rounded to k / 255
};

// Reads adversarial.safetensors as write_pictures leaves it and predicts its images in float32, in
// batches of another size than the evaluation's.
Verification verify(models::Classifier& model, const Evaluation& evaluation,
                    const data::ImageSet& set, const attacks::ThreatModel& threat, int batch,
                    const std::filesystem::path& file);

}  // namespace moat::train
