#pragma once

#include <string>
#include <vector>

#include "engine/nn/module.h"
#include "engine/optim/adamw.h"
#include "engine/optim/sgd.h"
#include "engine/tape.h"

namespace moat::engine {

// A group of parameters in one contiguous buffer, with its gradients and what its optimizer
// remembers: one launch steps, checks or saves them all. Building it moves the parameters' bytes
// into the buffer; the members stay usable as before.
class FlatParameters {
 public:
  explicit FlatParameters(std::vector<NamedTensor> members);

  // Makes every member a variable of the tape.
  void watch(const Tape& tape);
  // Copies the members' gradients into the flat buffer; zero where the loss does not depend on one.
  void collect(const Gradients& gradients);
  // `failures`: int64 [1], where it is not 0 nothing is changed; undefined: always steps.
  void step(const SgdOptions& options, const Tensor& failures = {});
  void step(const AdamwOptions& options, const Tensor& failures = {});
  // From now on the weights of kernels alone decay: those of products and convolutions, and not
  // biases, norms, class tokens and positions.
  void decay_kernels_alone();
  // AdamW's memory beside the first moment, made by its first step at the latest.
  void add_second_moment();
  // What multiplies the learning rate of the steps to come, 1 at first. It lies on the device,
  // where a recorded graph reads it anew at each launch.
  void set_lr_factor(double factor) { lr_factor_.fill(factor); }

  // Adds gamma ‖w‖ / ‖g‖ · g to each tensor w of more than one axis, g its gradient; nothing where
  // the gradient is zero, and less where it is below 1e-19, whose square float32 does not hold.
  void climb(double gamma);

  // Scales the gradients so that their Euclidean norm is at most `limit`; returns the norm before,
  // one element. It is infinite, and the gradients become zeros, where the sum of their squares is
  // more than float32 holds (a norm of 1.8e19): whoever goes on must check it.
  Tensor clip_gradient(double limit);
  // The member that element `place` of a flat buffer belongs to.
  const std::string& name_at(int64_t place) const;

  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& velocity() const { return velocity_; }            // of SGD, or AdamW's first moment
  const Tensor& second_moment() const { return second_moment_; }  // undefined without AdamW
  const Tensor& powers() const { return powers_; }                // of AdamW's betas, likewise

 private:
  std::vector<NamedTensor> members_;
  std::vector<int64_t> offsets_;  // [members + 1]
  Tensor values_, gradients_, velocity_, second_moment_;
  Tensor powers_;     // float64 [2]
  Tensor lr_factor_;  // float64 [1]
  Tensor decayed_;    // uint8, 1 for a weight that decays; undefined: all do
};

}  // namespace moat::engine
