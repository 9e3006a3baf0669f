#include "train/step_report.h"

#include "engine/ops/count.h"
#include "engine/ops/finite.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::train {

using namespace engine;

void FiniteChecks::add(Check check) {
  if (!check.found.device().is_cpu()) {
    checks_.push_back(std::move(check));
    return;
  }
  const auto found = check.found.to_vector<int64_t>();
  if (found[0] > 0) throw Diverged(check.failure(found[1]));
}

void FiniteChecks::require_finite(const Tensor& x, const std::string& failure) {
  add({find_nonfinite(x), [failure](int64_t) { return failure; }});
}

void FiniteChecks::require_finite(const FlatParameters& group, const Tensor& flat,
                                  const std::function<std::string(const std::string&)>& failure) {
  add({find_nonfinite(flat),
       [&group, failure](int64_t first) { return failure(group.name_at(first)); }});
}

Tensor FiniteChecks::failures() const {
  if (checks_.empty()) return {};
  Tensors counts;  // int64 has no sums; float64 counts exactly
  for (const Check& check : checks_) counts.push_back(check.found.sliced(0, 0, 1).to(Dtype::f64));
  return sum(concat(counts, 0), 0).to(Dtype::i64).reshaped({1});
}

void FiniteChecks::read() const {
  for (const Check& check : checks_) {
    const auto found = check.found.to_vector<int64_t>();
    if (found[0] > 0) throw Diverged(check.failure(found[1]));
  }
}

namespace {
Tensor correct(const models::Prediction& prediction, const Tensor& labels) {
  return count_equal(argmax(prediction.logits.detached(), 1), labels);
}
}  // namespace

void StepReport::count_clean(const models::Prediction& prediction, const Tensor& labels) {
  clean_correct = correct(prediction, labels);
}

void StepReport::count_robust(const models::Prediction& prediction, const Tensor& labels) {
  images = labels.size();
  robust_correct = correct(prediction, labels);
  if (prediction.experts.defined())
    usage = bin_count(prediction.experts, to_int(prediction.scores.dim(1)));
}

StepStatistics read(const StepReport& report) {
  report.checks.read();
  StepStatistics out;
  out.images = report.images;
  out.loss = report.loss.item() * static_cast<double>(report.images);
  if (report.clean_correct.defined()) {
    out.clean_correct = report.clean_correct.to_vector<int64_t>()[0];
    out.clean_seen = report.images;
  }
  if (report.robust_correct.defined())
    out.robust_correct = report.robust_correct.to_vector<int64_t>()[0];
  if (report.usage.defined())
    for (int32_t images : report.usage.to_vector<int32_t>()) out.usage.push_back(images);
  return out;
}

}  // namespace moat::train
