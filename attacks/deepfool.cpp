#include "attacks/deepfool.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "attacks/logit_slopes.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

namespace {

// [k][image]: the k-th best class but the label.
std::vector<std::vector<int32_t>> candidates(const LogitSlopes& clean,
                                             const std::vector<int32_t>& labels, int classes) {
  require(clean.classes() >= 2, "deepfool: a model needs two classes to be fooled");
  std::vector<std::vector<int32_t>> to(static_cast<size_t>(std::min(classes, clean.classes()) - 1));
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::vector<int32_t> order = clean.ranking(i, labels[i]);
    for (size_t k = 0; k < to.size(); ++k) to[k].push_back(order[k]);
  }
  return to;
}

// The least move onto each plane: |difference| / ‖gradient‖_dual in the steepest direction.
Tensor move_onto(const Planes& planes, Norm norm) {
  std::vector<float> sizes;
  for (size_t i = 0; i < planes.differences.size(); ++i) {
    const double length = planes.dual_norms[i], far = std::abs(double{planes.differences[i]});
    const double size = far / (norm == Norm::linf ? length : length * length);
    sizes.push_back(length > 0 ? static_cast<float>(size) : 0);
  }
  const Tensor& g = planes.gradient;
  return mul(norm == Norm::linf ? sign(g) : g, per_image(sizes, g));
}

}  // namespace

Nearest deepfool_nearest(const Model& model, const Victims& victims, const DeepFool& a) {
  require(a.steps >= 0 && a.classes >= 2 && a.threat.eps >= 0,
          "deepfool: steps and eps must be >= 0, classes >= 2");
  NearestSearch search(victims, a.threat.norm, std::numeric_limits<double>::infinity());
  std::vector<std::vector<int32_t>> to;
  Tensor x = victims.images, moved = Tensor::zeros(x.shape(), x.dtype(), x.device());
  int64_t forwards = 0, backwards = 0;
  for (int i = 0; i <= a.steps && search.size() > 0; ++i) {
    LogitSlopes pass(model, x, a.gate);
    forwards += search.size();
    if (i == 0) to = candidates(pass, search.labels(), a.classes);
    const std::vector<int32_t> fooled = search.look(x, pass.predicted(), i);
    if (i == a.steps || std::ssize(fooled) == search.size()) break;
    const Planes planes = pass.nearest_planes(to, search.labels(), a.threat.norm);
    backwards += search.size() * std::ssize(to);
    moved = add(moved, move_onto(planes, a.threat.norm));
    const std::vector<int32_t> stay = search.leave();
    if (std::ssize(stay) != x.dim(0)) {
      moved = gather_rows(moved, index_of(stay, moved.device()));
      for (std::vector<int32_t>& rank : to) rank = rows_of(rank, stay);
    }
    x = clamp(add(search.victims().images, scale(moved, 1 + a.overshoot)), 0, 1);
  }
  Nearest found = search.result();
  found.forwards = forwards;
  found.backwards = backwards;
  return found;
}

AttackResult deepfool(const Model& model, const Victims& victims, const DeepFool& a) {
  return within_ball(model, victims, a.threat, deepfool_nearest(model, victims, a));
}

int64_t most_passes(const DeepFool& a, int) { return int64_t{a.steps} * (a.classes + 1) + 2; }

nlohmann::ordered_json constants_of(const DeepFool& a) {
  return {{"steps", a.steps},
          {"overshoot", a.overshoot},
          {"classes", a.classes},
          {"gate", name_of(a.gate)}};
}

}  // namespace moat::attacks
