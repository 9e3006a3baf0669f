#include "train/certify/certificate_files.h"

#include <algorithm>
#include <cmath>

#include "engine/io/file.h"
#include "train/certify/output_bounds.h"
#include "train/images.h"
#include "train/machine.h"
#include "train/run_log.h"
#include "train/statistics.h"

namespace moat::train {

using nlohmann::ordered_json;

namespace {

ordered_json interval95(int64_t part, int64_t whole) {
  const train::Interval i = wilson_interval(part, whole);
  return {i.low, i.high};
}

ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json curve_json(const Certification& c, const CertifiedSubject& on) {
  ordered_json curve = ordered_json::array();
  const int64_t n = on.set.size();
  for (size_t k = 0; k < on.eps.size(); ++k) {
    const double eps = on.eps[k];
    int64_t interval = 0, affine = 0, lipschitz = 0, kept = 0;
    for (size_t i = 0; i < c.images.size(); ++i) {
      const ImageCertificate& image = c.images[i];
      const bool is_right = image.prediction == on.set.labels[i];
      interval += is_right && image.interval >= eps;
      affine += is_right && image.affine >= eps;
      lipschitz += is_right && image.lipschitz >= eps;
      kept += image.route_radius > eps;
    }
    const int64_t certified = c.certified(on.set, eps);
    ordered_json row = {{"eps", eps},
                        {"eps_255", eps * 255},
                        {"certified", fraction(certified, n)},
                        {"ci95", interval95(certified, n)},
                        {"by_interval", fraction(interval, n)},
                        {"by_affine", fraction(affine, n)},
                        {"by_lipschitz", fraction(lipschitz, n)},
                        {"attacked", nullptr},
                        {"route_kept", nullptr}};
    if (!c.resisted.empty()) row["attacked"] = fraction(c.resisted.at(k), n);
    if (c.route_radius != RouteRadius::none) row["route_kept"] = fraction(kept, n);
    curve.push_back(std::move(row));
  }
  return curve;
}

ordered_json results_json(const Certification& c, const CertifiedSubject& on) {
  int64_t right = 0;
  std::vector<double> radii, routes;
  for (size_t i = 0; i < c.images.size(); ++i) {
    if (c.images[i].prediction == on.set.labels[i]) {
      ++right;
      radii.push_back(c.images[i].radius);
    }
    routes.push_back(c.images[i].route_radius);
  }
  const double largest = radii.empty() ? 0 : *std::max_element(radii.begin(), radii.end());
  return {{"clean", fraction(right, on.set.size())},
          {"radius_of_right", {{"median", median(radii)}, {"largest", largest}}},
          {"route_radius",
           {{"kind", name_of(c.route_radius)},
            {"median", c.route_radius == RouteRadius::none ? ordered_json(nullptr)
                                                           : finite_or_null(median(routes))}}},
          {"curve", curve_json(c, on)}};
}

std::string lipschitz_says(const models::ClassifierSettings& s) {
  const std::string each =
      "lead over the Lipschitz constant of the difference of two logits, "
      "on all images";
  if (s.dual)
    return s.dual->average == models::Average::logits
               ? "constants of both models, averaged as their logits are"
               : "constants of both models' probabilities, averaged; or the dual radius";
  if (s.experts == 1) return each;
  if (s.active == 1) return each + ", of the image's expert, while its route stays";
  return "Σ (gate's constant · |difference| + weight · expert's constant)" +
         std::string(s.active < s.experts ? ", while the choice of experts stays" : "");
}

ProofMethod affine_method(const models::ClassifierSettings& s) {
  const std::string name = "affine forms";
  const int64_t pixels = int64_t{s.height} * s.width * s.channels;
  if (pixels > kMostPixels)
    return {name, false,
            engine::text("they cost a pass per pixel, and an image has ", pixels, ", more than ",
                         kMostPixels)};
  return {name, true, "the same with how each value depends on each pixel"};
}

ProofMethod dual_method(const models::ClassifierSettings& s) {
  const std::string name = "dual radius";
  if (!s.dual) return {name, false, "not a dual model"};
  if (s.dual->average == models::Average::logits)
    return {name, false, "needs outputs in [0, 1]; this model averages logits"};
  if (!(s.dual->alpha > 0.5))
    return {name, false,
            engine::text("needs alpha above 1/2, where the robust model decides; alpha is ",
                         s.dual->alpha)};
  return {name, true,
          engine::text("the robust model's lead stays above (1 - alpha) / alpha = ",
                       (1 - s.dual->alpha) / s.dual->alpha, ", whatever the standard one says")};
}

ProofMethod route_method(const models::Classifier& model, RouteRadius route) {
  const std::string name = "route radius";
  switch (route) {
    case RouteRadius::exact:
      return {name, true, "exact: the linear router's route changes just beyond it"};
    case RouteRadius::bounded:
      return {name, true,
              "a lower bound: the route stays within it (interval bounds of the router)"};
    case RouteRadius::none:
      break;
  }
  return {name, false,
          model.is_routed() ? "a soft gate weighs several experts, no one route is taken"
                            : "a dense model has no route"};
}

}  // namespace

std::vector<ProofMethod> proof_methods(const models::Classifier& model, RouteRadius route) {
  return {{"interval bounds", true, "every expert that the ball can reach, by bisection of eps"},
          affine_method(model.settings()),
          {"Lipschitz constants", true, lipschitz_says(model.settings())},
          dual_method(model.settings()),
          route_method(model, route)};
}

void write_radii(const std::filesystem::path& file, const Certification& c,
                 const data::ImageSet& set) {
  engine::write_file(file, [&](std::ostream& out) {
    out << "index,label,prediction,route,radius,interval,affine,lipschitz,route_radius\n";
    for (size_t i = 0; i < c.images.size(); ++i) {
      const ImageCertificate& image = c.images[i];
      const bool has_route = c.route_radius != RouteRadius::none;
      out << set.ids[i] << ',' << set.labels[i] << ',' << image.prediction << ','
          << (has_route ? std::to_string(image.route) : "") << ',' << number_text(image.radius)
          << ',' << number_text(image.interval) << ',' << number_text(image.affine) << ','
          << number_text(image.lipschitz) << ','
          << (has_route ? number_text(image.route_radius) : "") << '\n';
    }
  });
}

ordered_json certificate_json(const Certification& c, const CertifiedSubject& on) {
  ordered_json methods = ordered_json::array(), constants = methods;
  for (const ProofMethod& m : proof_methods(on.model, c.route_radius))
    methods.push_back({{"name", m.name}, {"applies", m.applies}, {"says", m.says}});
  for (const LipschitzConstant& constant : c.constants)
    constants.push_back({{"name", constant.name},
                         {"bounds", constant.bounds},
                         {"upper_bound", finite_or_null(constant.bound)},
                         {"upper_bound_in_balls", finite_or_null(constant.local)},
                         {"sampled_lower_bound", constant.sampled}});
  return {{"schema", 1},
          {"tool", tool_json()},
          {"machine", machine_json(on.model.device())},
          {"model", {{"file", on.file}, {"sha256", on.sha256}, {"arch", on.model.settings().name}}},
          {"data", images_json(on.set)},
          {"threat", {{"norm", "linf"}, {"domain", {0, 1}}}},
          {"protocol", on.protocol},
          {"results", results_json(c, on)},
          {"methods", methods},
          {"constants", constants},
          {"ball_of_local_constants", c.local_eps},
          {"sampled_images", c.sampled_images},
          {"allowances", {{"float32_share", kFloat32Share}, {"pixel_rounding", kPixelRounding}}},
          {"seconds", on.seconds}};
}

}  // namespace moat::train
