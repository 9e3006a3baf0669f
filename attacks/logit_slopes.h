#pragma once

#include <span>
#include <vector>

#include "attacks/model.h"
#include "attacks/victims.h"
#include "engine/ops/ball.h"
#include "engine/tape.h"

namespace moat::attacks {

// A decision boundary near a point of each image, taken for a plane:
// {v : difference + <gradient, v - point> = 0}.
struct Planes {
  std::vector<float> differences;  // [n]: z_to - z_label, negative while the label wins
  engine::Tensor gradient;         // of the difference, like the points
  std::vector<double>
      dual_norms;  // ‖gradient‖₁ for L∞, ‖gradient‖₂ for L2; of nearest_planes alone
};

// The classes of one image by its logits, from the best to the worst without its label; ties in
// ascending order, NaN last.
std::vector<int32_t> ranking(std::span<const float> logits, int32_t label);

// A forward pass whose logits can be differentiated, one pair of classes after the other.
class LogitSlopes {
 public:
  LogitSlopes(const Model& model, const engine::Tensor& points, Gate gate);

  const std::vector<int32_t>& predicted() const { return predicted_; }
  std::vector<int32_t> ranking(size_t image, int32_t label) const;
  int classes() const { return static_cast<int>(logits_.dim(1)); }

  // The boundary between class to[i] and the label of image i: one backward pass.
  Planes planes(const std::vector<int32_t>& to, const std::vector<int32_t>& labels,
                engine::BackwardPass pass = engine::BackwardPass::last);
  // Of the classes to[k][i] the one whose boundary is nearest, |difference| / ‖gradient‖ in the
  // dual norm; the first at a tie. One backward pass for each k.
  Planes nearest_planes(const std::vector<std::vector<int32_t>>& to,
                        const std::vector<int32_t>& labels, engine::Norm norm);

 private:
  engine::Tape tape_;
  engine::Tensor pixels_, logits_;
  std::vector<float> values_;
  std::vector<int32_t> predicted_;
};

// The values of these rows, on the host.
template <class T>
std::vector<T> rows_of(const std::vector<T>& values, const std::vector<int32_t>& rows) {
  std::vector<T> out;
  for (int32_t row : rows) out.push_back(values[static_cast<size_t>(row)]);
  return out;
}

}  // namespace moat::attacks
