#include "attacks/logit_slopes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

std::vector<int32_t> ranking(std::span<const float> logits, int32_t label) {
  std::vector<int32_t> order;
  for (int32_t c = 0; c < std::ssize(logits); ++c)
    if (c != label) order.push_back(c);
  const auto value = [&](int32_t c) {  // an order needs one of NaN
    const float z = logits[static_cast<size_t>(c)];
    return std::isnan(z) ? -std::numeric_limits<float>::infinity() : z;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return value(a) > value(b); });
  return order;
}

LogitSlopes::LogitSlopes(const Model& model, const Tensor& points, Gate gate)
    : pixels_(tape_.watch(points)), logits_(model.forward(pixels_, gate).logits) {
  values_ = logits_.detached().to_vector<float>();
  predicted_ = argmax(logits_.detached(), 1).to_vector<int32_t>();
}

std::vector<int32_t> LogitSlopes::ranking(size_t image, int32_t label) const {
  const auto count = static_cast<size_t>(classes());
  return attacks::ranking({values_.data() + image * count, count}, label);
}

Planes LogitSlopes::planes(const std::vector<int32_t>& to, const std::vector<int32_t>& labels,
                           BackwardPass pass) {
  Planes out;
  std::vector<float> seed(values_.size());
  for (size_t i = 0; i < to.size(); ++i) {
    const size_t row = i * static_cast<size_t>(classes()),
                 target = row + static_cast<size_t>(to[i]),
                 label = row + static_cast<size_t>(labels[i]);
    seed[target] += 1;
    seed[label] -= 1;
    out.differences.push_back(values_[target] - values_[label]);
  }
  const Device device = pixels_.device();
  out.gradient =
      tape_.gradients(logits_, Tensor::from(seed, logits_.shape(), device), pass).of(pixels_);
  if (!out.gradient.defined())
    out.gradient = Tensor::zeros(pixels_.shape(), pixels_.dtype(), device);
  return out;
}

Planes LogitSlopes::nearest_planes(const std::vector<std::vector<int32_t>>& to,
                                   const std::vector<int32_t>& labels, Norm norm) {
  Planes nearest;
  std::vector<double> ratio;
  const int64_t n = pixels_.dim(0), d = n ? pixels_.size() / n : 0;
  for (size_t k = 0; k < to.size(); ++k) {
    Planes p =
        planes(to[k], labels, k + 1 < to.size() ? BackwardPass::not_last : BackwardPass::last);
    const Tensor flat = p.gradient.reshaped({n, d});
    const auto sums = sum(norm == Norm::linf ? abs(flat) : square(flat), 1).to_vector<float>();
    for (float s : sums) p.dual_norms.push_back(norm == Norm::linf ? double{s} : std::sqrt(s));
    std::vector<int32_t> closer;
    for (size_t i = 0; i < to[k].size(); ++i) {
      const double far = p.dual_norms[i] > 0 ? std::abs(double{p.differences[i]}) / p.dual_norms[i]
                                             : std::numeric_limits<double>::infinity();
      if (k == 0) {
        ratio.push_back(far);
      } else if (far < ratio[i]) {
        ratio[i] = far;
        nearest.differences[i] = p.differences[i];
        nearest.dual_norms[i] = p.dual_norms[i];
        closer.push_back(static_cast<int32_t>(i));
      }
    }
    if (k == 0)
      nearest = std::move(p);
    else if (!closer.empty())
      nearest.gradient = replaced_rows(
          nearest.gradient, gather_rows(p.gradient, index_of(closer, p.gradient.device())), closer);
  }
  return nearest;
}

}  // namespace moat::attacks
