#include "attacks/carlini_wagner.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "attacks/logit_slopes.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kAdamEpsilon = 1e-8;
constexpr double kShrink = 0.999999;  // keeps w finite at pixels of 0 and 1
constexpr double kProgress = 0.9999;  // a loss that is not below this part of the last one stalls
constexpr int kChecks = 10;           // of the progress, in the course of a search

// The point's place in w: atanh(2x - 1).
Tensor inverse_tanh(const Tensor& images) {
  const Tensor u = affine(images, 2 * kShrink, -kShrink);
  return scale(log(div(affine(u, 1, 1), affine(u, -1, 1))), 0.5);
}

// Adam's state and the variable it moves (Kingma & Ba 2015, Algorithm 1).
struct Adam {
  Tensor w, first, second;
  explicit Adam(const Tensor& start) : w(start), first(scale(start, 0)), second(first) {}

  void step(const Tensor& gradient, int number, double learning_rate) {
    first = add(scale(first, kBeta1), scale(gradient, 1 - kBeta1));
    second = add(scale(second, kBeta2), scale(square(gradient), 1 - kBeta2));
    const double rate = learning_rate / (1 - std::pow(kBeta1, number)),
                 spread = 1 / std::sqrt(1 - std::pow(kBeta2, number));
    w = sub(w, div(scale(first, rate), affine(sqrt(second), spread, kAdamEpsilon)));
  }
  void keep(const std::vector<int32_t>& rows) {
    const Tensor index = index_of(rows, w.device());
    for (Tensor* t : {&w, &first, &second}) *t = gather_rows(*t, index);
  }
};

// An image's weight of the second term and what is known of the best one.
struct Weight {
  double c, low = 0, high = std::numeric_limits<double>::infinity();
  bool has_fooled = false;  // in the present search

  void choose_next() {
    (has_fooled ? high : low) = c;
    c = std::isinf(high) ? 10 * c : (low + high) / 2;
    has_fooled = false;
  }
};

class Search {
 public:
  Search(const Model& model, const Victims& victims, const CarliniWagner& settings)
      : model_(model),
        a_(settings),
        // Distances are float32: at a hair less than eps a point is inside beyond doubt.
        search_(victims, Norm::l2, a_.goal == Goal::fool ? a_.threat.eps * (1 - 1e-6) : 0),
        weights_(static_cast<size_t>(victims.size()), {.c = a_.first_c}) {}

  Nearest nearest() {
    for (int search = 0; search < a_.searches; ++search) {
      search_.begin();
      if (search_.size() > 0) run(search);
      for (Weight& weight : weights_) weight.choose_next();
    }
    Nearest found = search_.result();
    found.forwards = found.backwards = looks_;
    return found;
  }

 private:
  struct Look {
    Tensor points;
    std::vector<float> loss;
    Tensor gradient;
    std::vector<int32_t> predicted;
  };

  void run(int search) {
    Adam adam(inverse_tanh(search_.victims().images));
    const int stretch = std::max(a_.steps / kChecks, 1);
    std::vector<float> before(static_cast<size_t>(search_.size()),
                              std::numeric_limits<float>::infinity());
    for (int i = 0; i < a_.steps && search_.size() > 0; ++i) {
      const Look look = look_at(adam.w);
      for (int32_t position : search_.look(look.points, look.predicted, search * a_.steps + i))
        weight_of(position).has_fooled = true;
      adam.step(look.gradient, i + 1, a_.learning_rate);
      std::vector<bool> stalls;
      if (i % stretch == 0) {
        for (size_t k = 0; k < before.size(); ++k)
          stalls.push_back(!(look.loss[k] <= kProgress * before[k]));
        before = look.loss;
      }
      const std::vector<int32_t> stay = search_.leave(stalls);
      if (std::ssize(stay) == std::ssize(before)) continue;
      adam.keep(stay);
      before = rows_of(before, stay);
    }
  }

  Look look_at(const Tensor& at) {
    const Victims& v = search_.victims();
    std::vector<float> c;
    for (int32_t position = 0; position < v.size(); ++position)
      c.push_back(static_cast<float>(weight_of(position).c));
    looks_ += v.size();
    Tape tape;
    const Tensor w = tape.watch(at), x = affine(tanh(w), 0.5, 0.5);
    const Tensor logits = model_.forward(x, a_.gate).logits;
    const Tensor distance =
        sum(reshape(square(sub(x, v.images)), {v.size(), v.images.size() / v.size()}), 1);
    const Tensor lead = relu(scale(margin(logits, v.labels), -1));
    const Tensor loss = add(distance, mul(lead, Tensor::from(c, {v.size()}, at.device())));
    const Tensor ones = Tensor::full(loss.shape(), 1, loss.dtype(), loss.device());
    return {.points = x.detached(),
            .loss = loss.detached().to_vector<float>(),
            .gradient = tape.gradients(loss, ones).of(w),
            .predicted = argmax(logits.detached(), 1).to_vector<int32_t>()};
  }

  Weight& weight_of(int32_t position) {
    return weights_[static_cast<size_t>(search_.rows()[static_cast<size_t>(position)])];
  }

  const Model& model_;
  const CarliniWagner& a_;
  NearestSearch search_;
  std::vector<Weight> weights_;  // of all images
  int64_t looks_ = 0;
};

}  // namespace

Nearest carlini_wagner_nearest(const Model& model, const Victims& victims, const CarliniWagner& a) {
  require(a.threat.norm == Norm::l2,
          "carlini_wagner: minimises the L2 norm, and the threat's must be l2, got linf");
  require(
      a.steps >= 0 && a.searches >= 1 && a.first_c > 0 && a.learning_rate > 0 && a.threat.eps >= 0,
      "carlini_wagner: steps and eps must be >= 0, searches >= 1, first_c and learning_rate > 0");
  return Search(model, victims, a).nearest();
}

AttackResult carlini_wagner(const Model& model, const Victims& victims, const CarliniWagner& a) {
  return within_ball(model, victims, a.threat, carlini_wagner_nearest(model, victims, a));
}

int64_t most_passes(const CarliniWagner& a, int) { return int64_t{a.searches} * a.steps * 2 + 1; }

nlohmann::ordered_json constants_of(const CarliniWagner& a) {
  return {{"steps", a.steps},
          {"searches", a.searches},
          {"first c", a.first_c},
          {"learning rate", a.learning_rate},
          {"adam", {kBeta1, kBeta2, kAdamEpsilon}},
          {"confidence", 0},
          {"checks of progress", kChecks},
          {"progress", kProgress},
          {"goal", name_of(a.goal)},
          {"gate", name_of(a.gate)}};
}

}  // namespace moat::attacks
