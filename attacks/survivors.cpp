#include "attacks/survivors.h"

#include <numeric>

#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

namespace {

// The positions among `rows` of the images that still resist.
std::vector<int32_t> resisting(const std::vector<int32_t>& rows, const WorstPoints& worst) {
  const std::vector<int32_t> fooled_at = worst.fooled_at.to_vector<int32_t>();
  std::vector<int32_t> positions;
  for (size_t i = 0; i < rows.size(); ++i)
    if (fooled_at[static_cast<size_t>(rows[i])] < 0) positions.push_back(static_cast<int32_t>(i));
  return positions;
}

}  // namespace

void judge(const Model& model, const Victims& victims, int number, AttackResult& points) {
  const Probe seen = without_gradient(model, points.adversarial, victims, {.loss = Loss::margin});
  const std::vector<int32_t> predicted = seen.predicted.to_vector<int32_t>(),
                             labels = victims.labels.to_vector<int32_t>();
  points.fooled_at.clear();
  for (size_t i = 0; i < labels.size(); ++i)
    points.fooled_at.push_back(predicted[i] != labels[i] ? number : -1);
  points.forwards += seen.forwards;
}

Survivors::Survivors(const Victims& all, const WorstPoints& worst)
    : worst_(worst), labels_(all.labels) {
  std::vector<int32_t> rows(static_cast<size_t>(all.size()));
  std::iota(rows.begin(), rows.end(), 0);
  rows = rounded_up(resisting(rows, worst), all.size(), all.images.device());
  victims_ = all.rows(rows);
  rows_ = index_of(rows, all.images.device());
}

void Survivors::look(const Tensor& points, const Probe& probe, int number,
                     std::initializer_list<Tensor*> state) {
  const Tensor left =
      keep_worst(worst_, points, rows_, probe.predicted, labels_, probe.loss, number);
  const int64_t fooled = size() - left.to_vector<int32_t>()[0];
  idle_ += fooled;
  if (16 * fooled < size() && idle_ < 2 * size()) return;
  idle_ = 0;
  const Device device = rows_.device();
  const std::vector<int32_t> stay =
      rounded_up(resisting(rows_.to_vector<int32_t>(), worst_), size(), device);
  if (std::ssize(stay) == size()) return;
  const Tensor kept = index_of(stay, device);
  victims_ = victims_.rows(stay);
  rows_ = gather_rows(rows_, kept);
  for (Tensor* tensor : state)
    if (tensor->defined()) *tensor = gather_rows(*tensor, kept);
}

}  // namespace moat::attacks
