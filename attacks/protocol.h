#pragma once

#include <string>
#include <vector>

#include "attacks/attack.h"

namespace moat::attacks {

struct NamedAttack {
  std::string name;  // "pgd-50 through"
  Attack attack;
};

// A named, versioned set of attacks; an image counts as robust when it is classified correctly
// clean and resists every one of them. A name with its version never changes meaning.
struct Protocol {
  std::string name;  // "pgd-50@1"
  std::vector<NamedAttack> attacks;
};

std::vector<std::string> protocol_names();

// pgd-k@1: k steps of eps/4, one restart, uniform start in ball ∩ box, summed cross-entropy,
// float32, worst over all iterates and the start. A routed model meets it twice, with the gradient
// through the gate and with the gate's gradient blocked; both count. fgsm@1: one step of eps from
// the image. Throws UsageError for an unknown name.
Protocol find_protocol(const std::string& name, const ThreatModel& threat, uint64_t seed,
                       const Model& model);

struct SampleResult {
  int clean_prediction = -1, adversarial_prediction = -1;
  int fooled_by = -1;       // index into Protocol::attacks, -1: robust, or misclassified clean
  int iteration = -1;       // iterate that fooled it first
  float margin = 0;         // max_{i≠y} z_i - z_y at the adversarial point
  double linf = 0, l2 = 0;  // its distance
  int clean_route = -1, adversarial_route = -1;
  std::vector<bool> resisted;  // per attack
  bool is_correct(int label) const { return clean_prediction == label; }
  bool is_robust(int label) const { return is_correct(label) && fooled_by < 0; }
};

struct ProtocolResult {
  std::vector<SampleResult> samples;
  engine::Tensor adversarial;  // the worst point of each image; the image itself if wrong clean
  int64_t forwards = 0, backwards = 0;  // images
};

// Attacks one batch. The result of an image does not depend on the batch it is in.
ProtocolResult run_protocol(const Model& model, const Victims& victims, const Protocol& protocol);

}  // namespace moat::attacks
