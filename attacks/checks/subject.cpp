#include "attacks/checks/subject.h"

#include <algorithm>

#include "engine/ops/reduce.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

Answers ask(const Model& model, const Tensor& images) {
  const NoTapeScope not_recorded;
  const Outputs out = model.forward(images, Gate::blocked);
  return {
      .classes = out.logits.dim(1),
      .logits = out.logits.to_vector<float>(),
      .predicted = argmax(out.logits, 1).to_vector<int32_t>(),
      .routes = out.experts.defined() ? out.experts.to_vector<int32_t>() : std::vector<int32_t>{}};
}

std::vector<AttackResult> pgd_through_gates(const Subject& s, Pgd settings) {
  std::vector<AttackResult> results;
  settings.seed = s.seed;
  for (Gate gate : s.gates()) {
    settings.objective.gate = gate;
    results.push_back(pgd(s.model, s.right, settings));
  }
  return results;
}

std::vector<int> first_fooled(const std::vector<AttackResult>& results) {
  std::vector<int> first = results.front().fooled_at;
  for (const AttackResult& result : results)
    for (size_t i = 0; i < first.size(); ++i) {
      const int at = result.fooled_at[i];
      if (at >= 0 && (first[i] < 0 || at < first[i])) first[i] = at;
    }
  return first;
}

double part_of(int64_t count, size_t n) {
  return count <= 1 ? 0 : static_cast<double>(count) / static_cast<double>(n);
}

}  // namespace moat::attacks
