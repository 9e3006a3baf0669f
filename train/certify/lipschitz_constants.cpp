#include "train/certify/lipschitz_constants.h"

#include <algorithm>
#include <cmath>

#include "attacks/logit_slopes.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "train/certify/output_bounds.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double largest_of(const Pairs& pairs) {
  double largest = 0;
  for (double v : pairs.values) largest = std::max(largest, std::isnan(v) ? kInfinity : v);
  return largest;
}

Pairs largest_sizes(const Pairs& low) {
  Pairs out(low.classes);
  for (int a = 0; a < low.classes; ++a)
    for (int b = 0; b < low.classes; ++b) out.at(a, b) = std::max(-low.at(a, b), -low.at(b, a));
  return out;
}

std::vector<double> no_radius(const Tensor& images) {
  return std::vector<double>(static_cast<size_t>(images.dim(0)), 0.0);
}

// The probabilities of logits, as float32 can tell them apart.
Cone lowered(const Cone& logits) {
  Cone out = of_probabilities(logits);
  out.difference = float32_probabilities(logits.difference);
  return out;
}

// The cone of a mixture at one image, scores being what its differences are at least.
Cone mixture_cone(const ModelConstants& constants, const Pairs& scores, int active,
                  const std::vector<Pairs>& at_experts) {
  const std::vector<Share> shares = gate_shares(scores, active);
  std::vector<ConeOfExpert> chosen;
  double within = kInfinity;
  for (int i = 0; i < scores.classes; ++i) {
    const auto e = static_cast<size_t>(i);
    if (shares[e].high == 0) continue;
    chosen.push_back({.weight = shares[e],
                      .gate_rate = active > 1 ? constants.gate(i) : 0,
                      .largest = constants.largest[e],
                      .cone = {at_experts[e], constants.experts[e]}});
    for (int j = 0; j < scores.classes; ++j)
      if (shares[static_cast<size_t>(j)].high == 0)
        within = std::min(within, scores.at(i, j) / constants.scores.at(i, j));
  }
  // Where it is not certain which experts are chosen, the formula says nothing.
  if (static_cast<int>(chosen.size()) > active) within = 0;
  return mixed(chosen, within);
}

std::vector<Cone> mixture_cones(const models::Classifier& model, const ModelConstants& constants,
                                const Bounds& points) {
  const models::ClassifierSettings& s = model.settings();
  const std::vector<Pairs> scores = pairs_of(model.score_differences(points));
  std::vector<std::vector<Pairs>> at_experts(scores.size());
  for (int e = 0; e < s.experts; ++e) {
    const std::vector<Pairs> all = pairs_of(model.logit_differences(points, e));
    for (size_t i = 0; i < all.size(); ++i) at_experts[i].push_back(all[i]);
  }
  std::vector<Cone> out;
  for (size_t i = 0; i < scores.size(); ++i)
    out.push_back(mixture_cone(constants, scores[i], s.active, at_experts[i]));
  return out;
}

// ‖∇(y_a - y_b)‖₁ for the two largest outputs of `forward`, the largest of these images.
template <class Forward>
double sampled_slope(const Tensor& images, Forward&& forward) {
  const attacks::Model model{
      .forward = [&](const Tensor& x, attacks::Gate) { return attacks::Outputs{forward(x)}; }};
  attacks::LogitSlopes slopes(model, images, attacks::Gate::open);
  std::vector<int32_t> second;
  for (size_t i = 0; i < slopes.predicted().size(); ++i)
    second.push_back(slopes.ranking(i, slopes.predicted()[i]).front());
  const auto planes = slopes.nearest_planes({second}, slopes.predicted(), Norm::linf);
  return *std::max_element(planes.dual_norms.begin(), planes.dual_norms.end());
}

double largest_slope(const Bounds& differences) {
  double largest = 0;
  for (const Pairs& slopes : slopes_of(differences))
    largest = std::max(largest, largest_of(slopes));
  return largest;
}

void add_rows(const models::Classifier& model, const ModelConstants& constants,
              const Tensor& images, double eps, const std::string& prefix,
              std::vector<LipschitzConstant>& rows) {
  if (model.settings().dual) {
    add_rows(model.standard(), constants.parts[0], images, eps, prefix + "standard: ", rows);
    add_rows(model.robust(), constants.parts[1], images, eps, prefix + "robust: ", rows);
    return;
  }
  const models::ClassifierSettings& s = model.settings();
  const Tensor on_device = images.to(model.device());
  const std::vector<double> radius(static_cast<size_t>(images.dim(0)), eps);
  const Bounds balls = box_around(images, radius, Carry::slopes);
  for (int e = 0; e < s.experts; ++e) {
    const auto along = [&](const Tensor& x) {
      const Tensor route = Tensor::full({x.dim(0)}, e, Dtype::i32, x.device());
      return model.is_routed() ? model.forward_along(x, route, Mode::eval)
                               : model.forward(x, Mode::eval).logits;
    };
    rows.push_back({prefix + (s.experts > 1 ? text("expert ", e, ": ") : "") + "logits",
                    "|(z_a - z_b)(x) - (z_a - z_b)(x')| / |x - x'|, any two classes",
                    largest_of(constants.experts[static_cast<size_t>(e)]),
                    largest_slope(model.logit_differences(balls, e)),
                    sampled_slope(on_device, along)});
  }
  if (s.experts == 1) return;
  const auto scores = [&](const Tensor& x) { return model.forward(x, Mode::eval).scores; };
  const LipschitzConstant router{
      prefix + "router: scores", "|(s_i - s_j)(x) - (s_i - s_j)(x')| / |x - x'|, any two experts",
      largest_of(constants.scores), largest_slope(model.score_differences(balls)),
      sampled_slope(on_device, scores)};
  rows.push_back(router);
  if (s.active == 1) return;
  rows.push_back({prefix + "gate: weights",
                  "|a_i(x) - a_i(x')| / |x - x'| of softmax(s), any expert", router.bound / 4,
                  router.local / 4, 0});
}

}  // namespace

double ModelConstants::gate(int expert) const {
  double most = 0;
  for (int j = 0; j < scores.classes; ++j) most = std::max(most, scores.at(expert, j));
  return most / 4;
}

ModelConstants model_constants(const models::Classifier& model) {
  const models::ClassifierSettings& s = model.settings();
  ModelConstants out;
  if (s.dual) {
    out.parts = {model_constants(model.standard()), model_constants(model.robust())};
    return out;
  }
  const Bounds all = all_images(s);
  for (int e = 0; e < s.experts; ++e) {
    const Differences differences = model.logit_differences(all, e);
    out.experts.push_back(slopes_of(differences).front());
    out.largest.push_back(largest_sizes(pairs_of(differences).front()));
  }
  if (s.experts > 1) out.scores = slopes_of(model.score_differences(all)).front();
  return out;
}

std::vector<Cone> cones(const models::Classifier& model, const ModelConstants& constants,
                        const Tensor& images) {
  const models::ClassifierSettings& s = model.settings();
  if (!s.dual) {
    const Bounds points = box_around(images, no_radius(images));
    if (s.experts > 1) return mixture_cones(model, constants, points);
    std::vector<Cone> out;
    for (const Pairs& difference : pairs_of(model.logit_differences(points, 0)))
      out.push_back({difference, constants.experts.front()});
    return out;
  }
  std::vector<Cone> out;
  const std::vector<Cone> standard = cones(model.standard(), constants.parts[0], images),
                          robust = cones(model.robust(), constants.parts[1], images);
  const bool on_logits = s.dual->average == models::Average::logits;
  for (size_t i = 0; i < robust.size(); ++i)
    out.push_back(on_logits ? averaged(standard[i], robust[i], s.dual->alpha)
                            : averaged(lowered(standard[i]), lowered(robust[i]), s.dual->alpha));
  return out;
}

std::vector<double> lipschitz_radii(const models::Classifier& model,
                                    const ModelConstants& constants, const Tensor& images,
                                    const std::vector<int>& predictions) {
  const std::vector<Cone> all = cones(model, constants, images);
  std::vector<double> radii;
  for (size_t i = 0; i < all.size(); ++i) radii.push_back(radius_of(all[i], predictions[i]));
  const auto& dual = model.settings().dual;
  if (dual && dual->average == models::Average::probabilities) {
    const std::vector<Cone> robust = cones(model.robust(), constants.parts[1], images);
    for (size_t i = 0; i < radii.size(); ++i)
      radii[i] = std::max(radii[i], dual_radius(lowered(robust[i]), predictions[i], dual->alpha));
  }
  // A little less, for the rounding of the formulas and of an attack's pixels.
  for (double& r : radii) r = std::max(0.0, r * (1 - 1e-9) - kPixelRounding);
  return radii;
}

std::vector<LipschitzConstant> constants_table(const models::Classifier& model,
                                               const ModelConstants& constants,
                                               const Tensor& images, double eps) {
  std::vector<LipschitzConstant> rows;
  add_rows(model, constants, images, eps, "", rows);
  return rows;
}

}  // namespace moat::train
