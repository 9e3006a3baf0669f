#include "attacks/nearest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "attacks/logit_slopes.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int32_t> predicted_at(const Model& model, const Tensor& points) {
  const NoTapeScope not_recorded;
  return argmax(model.forward(points, Gate::blocked).logits, 1).to_vector<int32_t>();
}

// Per image of [n, …].
std::vector<float> distances(const Tensor& points, const Tensor& centers, Norm norm) {
  const int64_t n = points.dim(0);
  const Tensor offset = sub(points, centers).reshaped({n, n ? points.size() / n : 0});
  if (norm == Norm::linf) return max(abs(offset), 1).to_vector<float>();
  std::vector<float> out = sum(square(offset), 1).to_vector<float>();
  for (float& d : out) d = std::sqrt(d);
  return out;
}

// In float64, of the points as they are stored.
double exact_distance(const float* x, const float* y, int64_t pixels, Norm norm) {
  double largest = 0, squares = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    const double d = std::abs(double{y[i]} - double{x[i]});
    largest = std::max(largest, d);
    squares += d * d;
  }
  return norm == Norm::linf ? largest : std::sqrt(squares);
}

}  // namespace

const char* name_of(Goal goal) {
  return goal == Goal::fool ? "a point within eps" : "the smallest distance";
}

NearestSearch::NearestSearch(const Victims& all, Norm norm, double enough)
    : all_(all),
      norm_(norm),
      enough_(enough),
      all_labels_(all.labels.to_vector<int32_t>()),
      nearest_(worst_points(all.images)),
      distance_(static_cast<size_t>(all.size()), std::numeric_limits<float>::infinity()),
      found_at_(static_cast<size_t>(all.size()), -1) {
  begin();
}

bool NearestSearch::is_done(int32_t row) const {
  const auto i = static_cast<size_t>(row);
  return found_at_[i] >= 0 && distance_[i] <= enough_;
}

void NearestSearch::begin() {
  std::vector<int32_t> left;
  for (int32_t row = 0; row < all_.size(); ++row)
    if (!is_done(row)) left.push_back(row);
  rows_ = rounded_up(left, all_.size(), all_.images.device());
  victims_ = all_.rows(rows_);
  labels_ = rows_of(all_labels_, rows_);
  is_company_.clear();
  for (int32_t row : rows_) is_company_.push_back(is_done(row));
}

std::vector<int32_t> NearestSearch::look(const Tensor& points,
                                         const std::vector<int32_t>& predicted, int number) {
  std::vector<int32_t> fooled;
  for (size_t i = 0; i < rows_.size(); ++i)
    if (predicted[i] != labels_[i] && !is_company_[i]) fooled.push_back(static_cast<int32_t>(i));
  if (fooled.empty()) return fooled;
  const Device device = points.device();
  const Tensor index = index_of(fooled, device), x = gather_rows(points, index);
  const std::vector<int32_t> rows = rows_of(rows_, fooled);
  std::vector<float> distance = distances(x, gather_rows(victims_.images, index), norm_), loss;
  for (size_t k = 0; k < rows.size(); ++k) {
    const auto row = static_cast<size_t>(rows[k]);
    loss.push_back(-distance[k]);
    if (!(distance[k] < distance_[row])) continue;
    distance_[row] = distance[k];
    found_at_[row] = number;
  }
  // Called right, so that a nearer point may come after this one.
  keep_worst(nearest_, x, index_of(rows, device), index_of(rows_of(labels_, fooled), device),
             all_.labels, Tensor::from(loss, {std::ssize(loss)}, device), number);
  return fooled;
}

std::vector<int32_t> NearestSearch::leave(const std::vector<bool>& is_over) {
  std::vector<int32_t> left;
  for (size_t i = 0; i < rows_.size(); ++i) {
    is_company_[i] = is_company_[i] || is_done(rows_[i]) || (!is_over.empty() && is_over[i]);
    if (!is_company_[i]) left.push_back(static_cast<int32_t>(i));
  }
  const std::vector<int32_t> stay = rounded_up(left, size(), all_.images.device());
  if (std::ssize(stay) == size()) return stay;
  victims_ = victims_.rows(stay);
  rows_ = rows_of(rows_, stay);
  labels_ = rows_of(labels_, stay);
  is_company_ = rows_of(is_company_, stay);
  return stay;
}

Nearest NearestSearch::result() const {
  Nearest out{.points = nearest_.points, .distance = {}, .found_at = found_at_};
  const Tensor images = all_.images.to(Device{}).contiguous(), points = out.points.to(Device{});
  const int64_t n = all_.size(), pixels = n ? images.size() / n : 0;
  for (int64_t i = 0; i < n; ++i)
    out.distance.push_back(found_at_[static_cast<size_t>(i)] < 0
                               ? kInfinity
                               : exact_distance(images.data_as<float>() + i * pixels,
                                                points.data_as<float>() + i * pixels, pixels,
                                                norm_));
  return out;
}

Nearest bisected(const Model& model, const Victims& victims, Norm norm, double enough, int times,
                 int first, const Nearest& found) {
  Nearest out = found;
  std::vector<int32_t> wanted;
  for (int32_t i = 0; i < victims.size(); ++i)
    if (found.found_at[static_cast<size_t>(i)] >= 0 &&
        found.distance[static_cast<size_t>(i)] > enough)
      wanted.push_back(i);
  if (times == 0 || wanted.empty()) return out;
  const std::vector<int32_t> rows = rounded_up(wanted, victims.size(), victims.images.device());
  const Victims chosen = victims.rows(rows);
  const Tensor way =
      sub(gather_rows(found.points, index_of(rows, chosen.images.device())), chosen.images);
  NearestSearch search(chosen, norm, 0);
  std::vector<float> low(rows.size(), 0), high(rows.size(), 1), middle(rows.size());
  for (int i = 0; i < times; ++i) {
    for (size_t k = 0; k < rows.size(); ++k) middle[k] = (low[k] + high[k]) / 2;
    const Tensor x = clamp(add(chosen.images, mul(way, per_image(middle, way))), 0, 1);
    const std::vector<int32_t> predicted = predicted_at(model, x);
    out.forwards += std::ssize(rows);
    search.look(x, predicted, first + i);
    for (size_t k = 0; k < rows.size(); ++k)
      (predicted[k] != search.labels()[k] ? high : low)[k] = middle[k];
  }
  const Nearest closer = search.result();
  std::vector<int32_t> positions, better;
  for (size_t k = 0; k < rows.size(); ++k) {
    const auto i = static_cast<size_t>(rows[k]);
    const bool is_wanted = std::binary_search(wanted.begin(), wanted.end(), rows[k]);
    if (!is_wanted || !(closer.distance[k] < out.distance[i])) continue;
    out.distance[i] = closer.distance[k];
    out.found_at[i] = closer.found_at[k];
    positions.push_back(rows[k]);
    better.push_back(static_cast<int32_t>(k));
  }
  if (!better.empty())
    out.points = replaced_rows(
        out.points, gather_rows(closer.points, index_of(better, way.device())), positions);
  return out;
}

AttackResult within_ball(const Model& model, const Victims& victims, const ThreatModel& threat,
                         const Nearest& found) {
  AttackResult result;
  result.adversarial = ball_project(found.points, victims.images, threat.norm, threat.eps);
  result.fooled_at.assign(static_cast<size_t>(victims.size()), -1);
  result.forwards = found.forwards;
  result.backwards = found.backwards;
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < victims.size(); ++i)
    if (found.found_at[static_cast<size_t>(i)] >= 0) rows.push_back(i);
  if (rows.empty()) return result;
  rows = rounded_up(rows, victims.size(), victims.images.device());
  const Tensor x = gather_rows(result.adversarial, index_of(rows, victims.images.device()));
  const std::vector<int32_t> predicted = predicted_at(model, x),
                             labels = victims.labels.to_vector<int32_t>();
  result.forwards += std::ssize(rows);
  for (size_t k = 0; k < rows.size(); ++k) {
    const auto i = static_cast<size_t>(rows[k]);
    if (predicted[k] != labels[i]) result.fooled_at[i] = found.found_at[i];
  }
  return result;
}

}  // namespace moat::attacks
