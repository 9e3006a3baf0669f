#include "attacks/fab.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "attacks/logit_slopes.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/fab_step.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/random.h"

namespace moat::attacks {

using namespace engine;

namespace {

// A point in the box, eps / 2 from each image.
Tensor random_start(const Victims& v, const Fab& a, uint32_t stream) {
  const RandomKey key{.seed = a.seed, .purpose = Purpose::attack_start, .stream = stream};
  const Shape& shape = v.images.shape();
  const bool is_linf = a.threat.norm == Norm::linf;
  const Tensor u =
      is_linf ? random_uniform(shape, v.ids, key, -1, 1) : random_normal(shape, v.ids, key, 0, 1);
  const Tensor flat = u.reshaped({shape[0], shape[0] ? u.size() / shape[0] : 0});
  std::vector<float> sizes =
      (is_linf ? max(abs(flat), 1) : sqrt(sum(square(flat), 1))).to_vector<float>();
  for (float& s : sizes) s = static_cast<float>(a.threat.eps / 2) / s;
  return clamp(add(v.images, mul(u, per_image(sizes, u))), 0, 1);
}

// All starts of the attack, one after the other.
class Search {
 public:
  Search(const Model& model, const Victims& victims, const Fab& settings)
      : model_(model), a_(settings), search_(victims, a_.threat.norm, enough(a_)) {}

  // Distances are float32: at a hair less than eps a point is inside beyond doubt.
  static double enough(const Fab& a) {
    return a.goal == Goal::fool ? a.threat.eps * (1 - 1e-6) : 0;
  }

  Nearest nearest() {
    for (int target = 0; target == 0 || target < std::min<int64_t>(a_.targets, std::ssize(ranks_));
         ++target)
      for (int restart = 0; restart < a_.restarts; ++restart) run(target, restart);
    Nearest found = search_.result();
    found.forwards = forwards_;
    found.backwards = backwards_;
    return found;
  }

 private:
  void run(int target, int restart) {
    search_.begin();
    if (search_.size() == 0) return;
    const int number = target * a_.restarts + restart;
    Tensor x = restart == 0 ? search_.victims().images
                            : random_start(search_.victims(), a_, static_cast<uint32_t>(number));
    for (int i = 0; i <= a_.steps && search_.size() > 0; ++i) {
      const Planes planes = look(x, target, number * (a_.steps + 1) + i, i == a_.steps);
      if (!planes.gradient.defined()) continue;
      const Tensor difference = Tensor::from(planes.differences, {x.dim(0)}, x.device());
      x = fab_step(x, search_.victims().images, planes.gradient, difference,
                   {.norm = a_.threat.norm, .pull = a_.pull, .overshoot = a_.overshoot});
    }
  }

  // Looks at x; images leave, misclassified points go back. Returns the boundaries near the points
  // that then are, none of nobody or after the last look. One forward pass does both where x stays;
  // where most points go back it is not differentiated.
  Planes look(Tensor& x, int target, int number, bool is_last) {
    Planes planes;
    std::vector<int32_t> missing;  // whose planes are
    {
      LogitSlopes pass(model_, x, a_.gate);
      forwards_ += search_.size();
      if (ranks_.empty()) rank(pass);
      missing = search_.look(x, pass.predicted(), number);
      if (is_last) return {};
      if (2 * std::ssize(missing) < search_.size())
        planes = planes_of(pass, target, search_.rows(), search_.labels());
    }
    if (!missing.empty()) {
      x = replaced_rows(x, moved_back(x, missing), missing);
      leave(x, planes, missing);
    }
    if (search_.size() == 0) return {};
    if (!planes.gradient.defined()) return planes_at(x, target, search_.rows(), search_.labels());
    if (missing.empty()) return planes;
    const Planes others =
        planes_at(gather_rows(x, index_of(missing, x.device())), target,
                  rows_of(search_.rows(), missing), rows_of(search_.labels(), missing));
    planes.gradient = replaced_rows(planes.gradient, others.gradient, missing);
    for (size_t k = 0; k < missing.size(); ++k)
      planes.differences[static_cast<size_t>(missing[k])] = others.differences[k];
    return planes;
  }

  Tensor moved_back(const Tensor& x, const std::vector<int32_t>& positions) const {
    const Tensor index = index_of(positions, x.device());
    const Tensor image = gather_rows(search_.victims().images, index);
    return clamp(add(image, scale(sub(gather_rows(x, index), image), a_.retreat)), 0, 1);
  }

  // Images that are done leave, with their rows of the state and from `positions`.
  void leave(Tensor& x, Planes& planes, std::vector<int32_t>& positions) {
    const std::vector<int32_t> stay = search_.leave();
    if (std::ssize(stay) == x.dim(0)) return;
    const Tensor index = index_of(stay, x.device());
    x = gather_rows(x, index);
    if (planes.gradient.defined()) {
      planes.gradient = gather_rows(planes.gradient, index);
      planes.differences = rows_of(planes.differences, stay);
    }
    std::vector<int32_t> left;
    for (size_t i = 0; i < stay.size(); ++i)
      if (std::binary_search(positions.begin(), positions.end(), stay[i]))
        left.push_back(static_cast<int32_t>(i));
    positions = left;
  }

  Planes planes_at(const Tensor& x, int target, const std::vector<int32_t>& rows,
                   const std::vector<int32_t>& labels) {
    LogitSlopes pass(model_, x, a_.gate);
    forwards_ += x.dim(0);
    return planes_of(pass, target, rows, labels);
  }

  Planes planes_of(LogitSlopes& pass, int target, const std::vector<int32_t>& rows,
                   const std::vector<int32_t>& labels) {
    if (a_.targets > 0) {
      backwards_ += std::ssize(rows);
      return pass.planes(rows_of(ranks_[static_cast<size_t>(target)], rows), labels);
    }
    std::vector<std::vector<int32_t>> others(ranks_.size());  // class k, or k + 1 from the label on
    for (size_t k = 0; k < others.size(); ++k)
      for (int32_t label : labels)
        others[k].push_back(static_cast<int32_t>(k) + (static_cast<int32_t>(k) >= label));
    backwards_ += std::ssize(rows) * std::ssize(others);
    return pass.nearest_planes(others, labels, a_.threat.norm);
  }

  // At the first look, which is at all images as they are.
  void rank(const LogitSlopes& clean) {
    require(clean.classes() >= 2, "fab: a model needs two classes to be fooled");
    ranks_.resize(static_cast<size_t>(clean.classes() - 1));
    for (size_t i = 0; i < search_.labels().size(); ++i) {
      const std::vector<int32_t> order = clean.ranking(i, search_.labels()[i]);
      for (size_t r = 0; r < order.size(); ++r) ranks_[r].push_back(order[r]);
    }
  }

  const Model& model_;
  const Fab& a_;
  NearestSearch search_;
  std::vector<std::vector<int32_t>> ranks_;  // [r][image]: the r-th best class but the label, clean
  int64_t forwards_ = 0, backwards_ = 0;
};

}  // namespace

Nearest fab_nearest(const Model& model, const Victims& victims, const Fab& a) {
  require(
      a.steps >= 0 && a.targets >= 0 && a.restarts >= 1 && a.bisections >= 0 && a.threat.eps >= 0,
      "fab: steps, targets, bisections and eps must be >= 0, restarts >= 1");
  require(a.retreat >= 0 && a.retreat <= 1,
          [&] { return text("fab: retreat must be in [0, 1], got ", a.retreat); });
  const Nearest found = Search(model, victims, a).nearest();
  const int looks = std::max(a.targets, 1) * a.restarts * (a.steps + 1);
  return bisected(model, victims, a.threat.norm, Search::enough(a), a.bisections, looks, found);
}

AttackResult fab(const Model& model, const Victims& victims, const Fab& a) {
  return within_ball(model, victims, a.threat, fab_nearest(model, victims, a));
}

int64_t most_passes(const Fab& a, int) {
  constexpr int kOthers = 9;  // classes, where the model's are not known
  const int step = a.targets > 0 ? 3 : 2 + kOthers;
  return int64_t{std::max(a.targets, 1)} * a.restarts * a.steps * step + 2;
}

nlohmann::ordered_json constants_of(const Fab& a) {
  nlohmann::ordered_json all = {{"steps", a.steps}};
  if (a.targets > 0)
    all["targets"] = a.targets;
  else
    all["targets"] = "none: the nearest of all boundaries";
  all.update({{"restarts", a.restarts},
              {"first start", "the image"},
              {"other starts", "eps / 2 from the image"},
              {"alpha max", a.pull},
              {"eta", a.overshoot},
              {"beta", a.retreat},
              {"bisections", a.bisections},
              {"goal", name_of(a.goal)},
              {"gate", name_of(a.gate)},
              {"seed", a.seed}});
  if (a.threat.norm == Norm::l2) all["flat gradient"] = kFlatGradient;
  return all;
}

}  // namespace moat::attacks
