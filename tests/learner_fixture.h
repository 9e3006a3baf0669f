#pragma once

#include <string>
#include <utility>
#include <vector>

#include "data/image_set.h"
#include "tests/models_fixture.h"
#include "train/learner.h"

namespace moat::tests {

inline data::Batch batch_for(const models::ClassifierSettings& s, int64_t n = 16) {
  return {random_images(n, s), random_labels(n, s.classes), row_numbers(n)};
}

inline train::StepSettings step_of(const train::TrainSettings& t, double rate, double router_rate) {
  return {.train = t, .seed = 1, .learning_rate = rate, .router_learning_rate = router_rate};
}

// Whole networks behind a linear router of pixels, as RT-ER has them.
inline models::ClassifierSettings tiny_networks(int experts, bool trained = false) {
  models::ClassifierSettings s = tiny_moe(experts);
  s.experts_are = models::Experts::networks;
  s.router = {.score_norm = false, .trained = trained};
  return s;
}

// Values of a model's tensors, to see which of them a step moves.
struct Snapshot {
  std::vector<std::string> names;
  std::vector<std::vector<float>> values;
  explicit Snapshot(const std::vector<engine::NamedTensor>& tensors) {
    for (const engine::NamedTensor& t : tensors) {
      names.push_back(t.name);
      values.push_back(t.value->to_vector<float>());
    }
  }
  explicit Snapshot(models::Classifier& model) : Snapshot(engine::parameters_of(model)) {}

  // The names that are not the same bits in both.
  std::vector<std::string> moved(const Snapshot& to) const {
    std::vector<std::string> out;
    for (size_t i = 0; i < names.size(); ++i)
      if (values[i] != to.values[i]) out.push_back(names[i]);
    return out;
  }
};

// Number of parameter tensors that differ, of the router and of everything else.
inline std::pair<int, int> changed(const Snapshot& a, const Snapshot& b) {
  std::pair<int, int> count{0, 0};
  for (const std::string& name : a.moved(b))
    ++(name.starts_with("router.") ? count.first : count.second);
  return count;
}

// Losses of rows of logits in float64 loops.
struct Rows {
  std::vector<double> values;
  int64_t classes;
  explicit Rows(const engine::Tensor& logits)
      : values(logits.detached().to(engine::Dtype::f64).to_vector<double>()),
        classes(logits.dim(1)) {}
  double at(int64_t row, int64_t c) const { return values[static_cast<size_t>(row * classes + c)]; }
  double log_softmax(int64_t row, int64_t c) const {
    double most = at(row, 0), sum = 0;
    for (int64_t k = 1; k < classes; ++k) most = std::max(most, at(row, k));
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(at(row, k) - most);
    return at(row, c) - most - std::log(sum);
  }
  double cross_entropy(int64_t row, int64_t label) const { return -log_softmax(row, label); }
  double kl(const Rows& q, int64_t row) const {
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c)
      sum += std::exp(log_softmax(row, c)) * (log_softmax(row, c) - q.log_softmax(row, c));
    return sum;
  }
};

}  // namespace moat::tests
