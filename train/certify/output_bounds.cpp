#include "train/certify/output_bounds.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/elementwise.h"

namespace moat::train {

using namespace engine;

namespace {

// All images of a mixture: each expert's bounds where a point of the box can meet it.
std::vector<Pairs> mixture_bounds(const models::Classifier& model, const Bounds& boxes) {
  const models::ClassifierSettings& s = model.settings();
  const std::vector<Pairs> scores = pairs_of(model.score_differences(boxes));
  std::vector<std::vector<Share>> shares;
  for (const Pairs& of_image : scores) shares.push_back(gate_shares(of_image, s.active));
  std::vector<std::vector<Pairs>> experts(
      scores.size(), std::vector<Pairs>(static_cast<size_t>(s.experts), Pairs(s.classes)));
  for (int e = 0; e < s.experts; ++e) {
    std::vector<int32_t> rows;
    for (size_t i = 0; i < shares.size(); ++i)
      if (shares[i][static_cast<size_t>(e)].high > 0) rows.push_back(static_cast<int32_t>(i));
    if (rows.empty()) continue;
    const Tensor index = Tensor::from(rows, {static_cast<int64_t>(rows.size())});
    std::vector<Pairs> some = pairs_of(model.logit_differences(gather_rows(boxes, index), e));
    for (size_t k = 0; k < rows.size(); ++k)
      experts[static_cast<size_t>(rows[k])][static_cast<size_t>(e)] = std::move(some[k]);
  }
  std::vector<Pairs> out;
  for (size_t i = 0; i < experts.size(); ++i) out.push_back(mixed(experts[i], shares[i]));
  return out;
}

std::vector<Pairs> matrices(const Tensor& t) {
  const int64_t n = t.dim(0), size = t.dim(1) * t.dim(2);
  const double* values = t.data_as<double>();
  std::vector<Pairs> out(static_cast<size_t>(n), Pairs(to_int(t.dim(1))));
  for (int64_t i = 0; i < n; ++i)
    std::copy(values + i * size, values + (i + 1) * size,
              out[static_cast<size_t>(i)].values.begin());
  return out;
}

// The forms of pixels: each depends on itself alone.
Tensor half_sides(const Bounds& box) {
  const int64_t n = box.dim(0), d = box.low.size() / n;
  const Tensor pixels = Tensor::zeros({n * d, d}, Dtype::f64);
  const Tensor half = scale(sub(box.high, box.low), 0.5).contiguous();
  for (int64_t i = 0; i < n * d; ++i)
    pixels.data_as<double>()[i * d + i % d] = half.data_as<double>()[i];
  Shape shape = box.low.shape();
  shape[0] = n * d;
  return pixels.reshaped(shape);
}

}  // namespace

Bounds box_around(const Tensor& images, std::span<const double> eps, Carry carry) {
  const Tensor x = images.to(Device{}).to(Dtype::f64);
  Shape per_image = Shape::of_rank(x.rank(), 1);
  per_image[0] = x.dim(0);
  std::vector<double> wider(eps.begin(), eps.end());
  // 2^-50: of the sums here.
  for (double& e : wider) e += e > 0 ? kPixelRounding + 0x1p-50 : 0;
  const Tensor radius = Tensor::from(wider, per_image);
  Bounds box{clamp(sub(x, radius), 0, 1), clamp(add(x, radius), 0, 1)};
  if (carry == Carry::slopes) box.slope = Tensor::full(x.shape(), 1, Dtype::f64);
  if (carry == Carry::affine_forms) box.pixels = half_sides(box);
  return box;
}

Bounds all_images(const models::ClassifierSettings& s) {
  const Shape shape{1, s.height, s.width, s.channels};
  const Tensor one = Tensor::full(shape, 1, Dtype::f64);
  return {Tensor::zeros(shape, Dtype::f64), one, one};
}

std::vector<Pairs> pairs_of(const Differences& differences) {
  std::vector<Pairs> out = matrices(differences.low);
  for (size_t i = 0; i < out.size(); ++i)
    for (double& v : out[i].values) v -= kFloat32Share * differences.terms.data_as<double>()[i];
  return out;
}

Pairs float32_probabilities(const Pairs& logits) {
  Pairs out = of_probabilities(logits);
  for (double& v : out.values) v -= kFloat32Share;
  return out;
}

std::vector<Pairs> slopes_of(const Bounds& differences) { return matrices(differences.slope); }

std::vector<Pairs> output_bounds(const models::Classifier& model, const Bounds& boxes) {
  const models::ClassifierSettings& s = model.settings();
  if (!s.dual)
    return s.experts > 1 ? mixture_bounds(model, boxes)
                         : pairs_of(model.logit_differences(boxes, 0));
  const std::vector<Pairs> standard = output_bounds(model.standard(), boxes),
                           robust = output_bounds(model.robust(), boxes);
  const bool on_logits = s.dual->average == models::Average::logits;
  std::vector<Pairs> out;
  for (size_t i = 0; i < standard.size(); ++i)
    out.push_back(on_logits ? averaged(standard[i], robust[i], s.dual->alpha)
                            : averaged(float32_probabilities(standard[i]),
                                       float32_probabilities(robust[i]), s.dual->alpha));
  return out;
}

std::vector<bool> keeps_route(const models::Classifier& model, const Bounds& boxes,
                              std::span<const int32_t> experts) {
  const std::vector<Pairs> scores = pairs_of(model.score_differences(boxes));
  std::vector<bool> kept;
  for (size_t i = 0; i < scores.size(); ++i) kept.push_back(scores[i].least_lead(experts[i]) > 0);
  return kept;
}

}  // namespace moat::train
