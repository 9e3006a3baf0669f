#include "train/evaluate.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;

namespace {

std::vector<int32_t> rows_from(int64_t from, int64_t to) {
  std::vector<int32_t> rows(static_cast<size_t>(to - from));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(from));
  return rows;
}

// Predictions of the stored points once more, in batches of another size.
int64_t count_changed(const models::Classifier& model, const Evaluation& e, int batch) {
  const int64_t n = e.adversarial.dim(0);
  const int other = std::max(1, batch * 2 / 3);
  int64_t changed = 0;
  for (int64_t from = 0; from < n; from += other) {
    const int64_t to = std::min<int64_t>(n, from + other);
    const auto predicted =
        argmax(
            model.forward(e.adversarial.sliced(0, from, to).to(model.device()), Mode::eval).logits,
            1)
            .to_vector<int32_t>();
    for (int64_t i = from; i < to; ++i)
      changed += predicted[size_t(i - from)] != e.samples[size_t(i)].adversarial_prediction;
  }
  return changed;
}

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

Evaluation evaluate(models::Classifier& model, const data::ImageSet& set,
                    const attacks::Protocol& protocol, int batch,
                    const EvaluationProgress& progress) {
  require(batch >= 1, [&] { return text("eval.batch must be at least 1, got ", batch); });
  const auto start = std::chrono::steady_clock::now();
  Evaluation e;
  e.protocol = protocol;
  e.fingerprint_before = fingerprint(model);
  const attacks::Model target = attack_model(model);
  Tensors points;
  int64_t clean = 0, robust = 0;
  for (int64_t from = 0; from < set.size(); from += batch) {
    const int64_t to = std::min<int64_t>(set.size(), from + batch);
    const data::Batch b = data::batch_of(set, rows_from(from, to)).to(model.device());
    attacks::ProtocolResult result =
        attacks::run_protocol(target, {b.images, b.labels, b.ids, {}}, protocol);
    for (int64_t i = from; i < to; ++i) {
      const attacks::SampleResult& sample = result.samples[size_t(i - from)];
      clean += sample.is_correct(set.labels[size_t(i)]);
      robust += sample.is_robust(set.labels[size_t(i)]);
      e.samples.push_back(sample);
    }
    points.push_back(result.adversarial.to(Device{}));
    e.forwards += result.forwards;
    e.backwards += result.backwards;
    if (progress) progress(to, clean, robust);
  }
  e.adversarial = concat(points, 0);
  e.verified_differently = count_changed(model, e, batch);
  e.forwards += set.size();
  e.fingerprint_after = fingerprint(model);
  e.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return e;
}

}  // namespace moat::train
