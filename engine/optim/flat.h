#pragma once

#include <string>
#include <vector>

#include "engine/nn/module.h"
#include "engine/optim/sgd.h"
#include "engine/tape.h"

namespace moat::engine {

// A group of parameters in one contiguous buffer, with its gradients and momentum: one launch
// steps, checks or saves them all. Building it moves the parameters' bytes into the buffer; the
// members stay usable as before.
class FlatParameters {
 public:
  explicit FlatParameters(std::vector<NamedTensor> members);

  // Makes every member a variable of the tape.
  void watch(const Tape& tape);
  // Copies the members' gradients into the flat buffer; zero where the loss does not depend on one.
  void collect(const Gradients& gradients);
  void step(const SgdOptions& options);
  void zero_velocity() { velocity_.fill(0); }

  // Scales the gradients so that their Euclidean norm is at most `limit`; returns the norm before.
  double clip_gradient(double limit);
  // The name of the first member with a NaN or infinite gradient; empty when there is none.
  std::string nonfinite_gradient() const { return first_nonfinite(gradients_); }
  // The same of the values.
  std::string nonfinite_value() const { return first_nonfinite(values_); }

  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& velocity() const { return velocity_; }

 private:
  std::string first_nonfinite(const Tensor& flat) const;

  std::vector<NamedTensor> members_;
  std::vector<int64_t> offsets_;  // [members + 1]
  Tensor values_, gradients_, velocity_;
};

}  // namespace moat::engine
