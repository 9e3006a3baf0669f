#pragma once

#include "attacks/model.h"
#include "attacks/victims.h"

namespace moat::attacks {

// What an attack maximises, per image.
enum class Loss {
  cross_entropy,  // of both labels, where images are mixed
  margin,         // max_{i≠y} z_i - z_y
  kl_divergence,  // KL(softmax reference ‖ softmax logits), the inner loss of TRADES
  dlr,            // the margin over the spread of the logits; below 3 classes the margin
  dlr_targeted,   // the same towards Victims::targets; below 4 classes z_t - z_y
};
const char* name_of(Loss loss);
engine::Tensor loss_of(Loss loss, const engine::Tensor& logits, const Victims& victims);

// What a gradient attack climbs.
struct Objective {
  Loss loss = Loss::cross_entropy;
  Gate gate = Gate::open;
};

// A look at points of the victims.
struct Probe {
  engine::Tensor predicted;  // int32 [n], by the model as it is
  engine::Tensor loss;       // float32 [n]
  engine::Tensor gradient;   // of the loss, like the points; zero where nothing depends on them
};
Probe with_gradient(const Model& model, const engine::Tensor& points, const Victims& victims,
                    const Objective& objective);
// The same without a gradient and at the cost of a forward pass.
Probe without_gradient(const Model& model, const engine::Tensor& points, const Victims& victims,
                       const Objective& objective);

}  // namespace moat::attacks
