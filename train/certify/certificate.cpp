#include "train/certify/certificate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "train/certify/certification_state.h"
#include "train/certify/output_bounds.h"
#include "train/certify/route_radius.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kBisections = 12;  // of log eps: to a factor of 1.0034

// For each image the largest eps, from kSmallestRadius to 1, at which `holds` was seen to hold, by
// bisection of log eps; 0 where it does not at the smallest. holds(rows, eps of each) -> of each.
template <class Holds>
std::vector<double> largest_eps(size_t images, Holds&& holds) {
  std::vector<int32_t> rows(images);
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<double> held(images, 0.0), failed(images, kInfinity);
  const auto look = [&](auto&& eps_of) {
    std::vector<double> eps;
    for (int32_t row : rows) eps.push_back(eps_of(static_cast<size_t>(row)));
    const std::vector<bool> held_now = holds(rows, eps);
    for (size_t k = 0; k < rows.size(); ++k)
      (held_now[k] ? held : failed)[static_cast<size_t>(rows[k])] = eps[k];
  };
  const auto drop = [&](auto&& is_settled) {
    std::erase_if(rows, [&](int32_t row) { return is_settled(static_cast<size_t>(row)); });
  };
  look([](size_t) { return kSmallestRadius; });
  drop([&](size_t i) { return held[i] == 0; });
  if (!rows.empty()) look([](size_t) { return 1.0; });
  drop([&](size_t i) { return held[i] == 1; });
  for (int step = 0; step < kBisections && !rows.empty(); ++step)
    look([&](size_t i) { return std::sqrt(held[i] * failed[i]); });
  return held;
}

Tensor some(const Tensor& images, const std::vector<int32_t>& rows) {
  return gather_rows(images, Tensor::from(rows, {static_cast<int64_t>(rows.size())}));
}

// Up to which each prediction is proven by bounds; a few images at a time where there are forms.
std::vector<double> proven_radii(const models::Classifier& model, const Tensor& images,
                                 const std::vector<int>& predictions, Carry carry) {
  const int64_t pixels = images.size() / images.dim(0);
  const size_t most = carry == Carry::affine_forms
                          ? static_cast<size_t>(std::max<int64_t>(1, kMostPixels / pixels))
                          : predictions.size();
  return largest_eps(predictions.size(), [&](const auto& rows, const auto& eps) {
    std::vector<bool> wins;
    for (size_t from = 0; from < rows.size(); from += most) {
      const size_t count = std::min(rows.size() - from, most);
      const std::vector<int32_t> part(rows.data() + from, rows.data() + from + count);
      const std::vector<Pairs> bounds =
          output_bounds(model, box_around(some(images, part), {eps.data() + from, count}, carry));
      for (size_t k = 0; k < count; ++k)
        wins.push_back(bounds[k].least_lead(predictions[static_cast<size_t>(part[k])]) > 0);
    }
    return wins;
  });
}

RouteRadius route_radius_kind(const models::Classifier& model) {
  const models::ClassifierSettings& s = model.settings();
  if (s.dual) {
    const RouteRadius a = route_radius_kind(model.standard()),
                      b = route_radius_kind(model.robust());
    if (a == RouteRadius::none || b == RouteRadius::none) return a == RouteRadius::none ? b : a;
    return a == b ? a : RouteRadius::bounded;
  }
  if (s.experts == 1 || s.active > 1) return RouteRadius::none;
  return model.linear_router() ? RouteRadius::exact : RouteRadius::bounded;
}

// How far each image keeps its hard routes; +inf where there are none.
std::vector<double> route_radii(const models::Classifier& model, const Tensor& images) {
  const auto n = static_cast<size_t>(images.dim(0));
  if (model.settings().dual) {
    std::vector<double> a = route_radii(model.standard(), images);
    const std::vector<double> b = route_radii(model.robust(), images);
    for (size_t i = 0; i < n; ++i) a[i] = std::min(a[i], b[i]);
    return a;
  }
  if (route_radius_kind(model) == RouteRadius::none) return std::vector<double>(n, kInfinity);
  if (const auto linear = model.linear_router()) {
    const auto weight = linear->weight.to_vector<double>(), bias = linear->bias.to_vector<double>();
    const auto pixels = images.to(Dtype::f64).to_vector<double>();
    const size_t d = pixels.size() / n;
    std::vector<double> radii;
    for (size_t i = 0; i < n; ++i)
      radii.push_back(linear_route_radius(weight, bias, {pixels.data() + i * d, d}, Box::pixels));
    return radii;
  }
  const auto routes =
      model.forward(images.to(model.device()), Mode::eval).experts.to_vector<int32_t>();
  return largest_eps(n, [&](const auto& rows, const auto& eps) {
    std::vector<int32_t> own;
    for (int32_t row : rows) own.push_back(routes[static_cast<size_t>(row)]);
    return keeps_route(model, box_around(some(images, rows), eps), own);
  });
}

}  // namespace

const char* name_of(RouteRadius kind) {
  switch (kind) {
    case RouteRadius::none:
      return "none";
    case RouteRadius::exact:
      return "exact";
    case RouteRadius::bounded:
      return "lower bound";
  }
  return "";
}

int64_t Certification::certified(const data::ImageSet& set, double eps) const {
  int64_t count = 0;
  for (size_t i = 0; i < images.size(); ++i) count += images[i].certified_for(set.labels[i]) >= eps;
  return count;
}

Certification certify(const models::Classifier& model, const data::ImageSet& set,
                      const CertifySettings& settings) {
  require(settings.batch >= 1, "certify: the batch must be at least 1");
  SavedState nowhere({}, {});
  SavedState& state = settings.state ? *settings.state : nowhere;
  Certification out;
  state.restore([&](const SavedState::Tensors& found) { restore(found, model, set, out); });
  out.route_radius = route_radius_kind(model);
  const ModelConstants constants = model_constants(model);
  if (settings.progress) settings.progress(std::ssize(out.images));
  while (std::ssize(out.images) < set.size()) {
    const int64_t from = std::ssize(out.images);
    const int64_t to = std::min<int64_t>(set.size(), from + settings.batch);
    std::vector<int32_t> rows(static_cast<size_t>(to - from));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(from));
    const Tensor images = data::batch_of(set, rows).images;
    const models::Prediction p = model.forward(images.to(model.device()), Mode::eval);
    const std::vector<int> predictions = argmax(p.logits, 1).to_vector<int32_t>();
    const std::vector<int> routes =
        p.experts.defined() ? p.experts.to_vector<int32_t>() : std::vector<int>(rows.size(), -1);
    const auto proven = [&](Carry carry) {
      return proven_radii(model, images, predictions, carry);
    };
    const std::vector<double> interval = proven(Carry::nothing),
                              affine = images.size() / images.dim(0) <= kMostPixels
                                           ? proven(Carry::affine_forms)
                                           : std::vector<double>(rows.size()),
                              lipschitz = lipschitz_radii(model, constants, images, predictions),
                              route = route_radii(model, images);
    for (size_t i = 0; i < rows.size(); ++i)
      out.images.push_back({predictions[i], routes[i],
                            std::max({interval[i], affine[i], lipschitz[i]}), interval[i],
                            affine[i], lipschitz[i], route[i]});
    if (settings.progress) settings.progress(to);
    const bool stop = settings.stop_requested && settings.stop_requested();
    if (stop || to == set.size() || state.is_due()) state.keep(tensors_of(out));
    require(!stop, [&] {
      return text("stopped after ", to, " of ", set.size(), " images; ",
                  settings.state ? "the same command goes on from here"
                                 : "certificates are written when all are done");
    });
  }
  const Tensor sampled = data::batch_of(data::first_rows(set, settings.sampled_images)).images;
  out.local_eps = settings.eps;
  out.sampled_images = sampled.dim(0);
  out.constants = constants_table(model, constants, sampled, settings.eps);
  return out;
}

}  // namespace moat::train
