#pragma once

#include <vector>

#include "attacks/checks/check.h"
#include "attacks/model.h"
#include "attacks/pgd.h"

namespace moat::attacks {

// What is checked.
struct Subject {
  const Model& model;
  Victims all;
  Victims right;  // those that are classified correctly
  ThreatModel threat;
  uint64_t seed = 0;

  // The gates a gradient attack has to try.
  std::vector<Gate> gates() const {
    return model.routed ? std::vector{Gate::open, Gate::blocked} : std::vector{Gate::open};
  }
};

// What the model says of some images.
struct Answers {
  int64_t classes = 0;
  std::vector<float> logits;               // [n, classes]
  std::vector<int32_t> predicted, routes;  // [n]; no routes of a model without them
};
Answers ask(const Model& model, const engine::Tensor& images);

// PGD through each gate.
std::vector<AttackResult> pgd_through_gates(const Subject& subject, Pgd settings);
// When the first of them fooled each image, counted in points; -1: none did.
std::vector<int> first_fooled(const std::vector<AttackResult>& results);

// A part of n images; that of a single one is 0, because a small subset resolves no less.
double part_of(int64_t count, size_t n);

// The families of checks, each in a file of its own.
std::vector<Check> check_forward(const Subject& subject);
std::vector<Check> check_gradients(const Subject& subject);
std::vector<Check> check_routing(const Subject& subject);
std::vector<Check> check_attacks(const Subject& subject);
std::vector<Check> check_balls(const Subject& subject);
std::vector<Check> check_experts(const Subject& subject);

}  // namespace moat::attacks
