#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/model.h"
#include "attacks/victims.h"
#include "engine/random.h"

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

// By which route points come to the logits whose loss is climbed; the verdict is the model's own.
enum class Path {
  own,            // the one that the model chooses for them
  given,          // Victims::routes
  soft,           // all: Σ_e softmax(scores)_e f_e
  soft_backward,  // own, with the gradient of `soft` (BPDA, Athalye et al. 2018)
  soft_router,    // as `soft`, but experts see the victims' images: the router alone (RA-R)
};
const char* name_of(Path path);

// What is climbed: the loss, a margin of the router's scores s, or both.
enum class Climbed { loss, router, both };
const char* name_of(Climbed climbed);

// That margin, with r of Victims::routes.
enum class Steer {
  away,     // max_{e≠r} s_e - s_r
  towards,  // s_r - max_{e≠r} s_e
};
const char* name_of(Steer steer);

// What a gradient attack climbs.
struct Objective {
  Loss loss = Loss::cross_entropy;
  Gate gate = Gate::open;  // blocked: soft paths do not differentiate their weights either
  Path path = Path::own;
  double auxiliary = 0;  // of Model::auxiliary, added to the loss
  Climbed climbed = Climbed::loss;
  Steer steer = Steer::away;
  // `both` climbs loss + lambda · margin along the sum of their gradients, each divided by the mean
  // of its absolute values in an image first.
  double lambda = 1;
  // Above 0: the gradient is that of the value smoothed with N(0, sigma²), estimated from so many
  // antithetic pairs: mean of u (L(x + sigma u) - L(x - sigma u)) / (2 sigma). It sees jumps; its
  // points leave the box.
  int samples = 0;
  double sigma = 8.0 / 255;
  // Of a randomised model: so many passes averaged in gradient, value and logits (EOT).
  int passes = 1;
};

// As a report prints them: those that matter to the others.
nlohmann::ordered_json constants_of(const Objective& objective);

// A look at points of the victims.
struct Probe {
  engine::Tensor predicted;  // int32 [n], by the model as it is
  engine::Tensor loss;       // float32 [n], the value that is climbed
  engine::Tensor gradient;   // like the points; zero where nothing depends on them
  // Images: every call of the model counts, and every one that the gradient goes back through.
  int64_t forwards = 0, backwards = 0;
};
// `key`: seed and iteration of the draws, where the objective has any.
Probe with_gradient(const Model& model, const engine::Tensor& points, const Victims& victims,
                    const Objective& objective, const engine::RandomKey& key = {});
// The same without a gradient.
Probe without_gradient(const Model& model, const engine::Tensor& points, const Victims& victims,
                       const Objective& objective, const engine::RandomKey& key = {});

}  // namespace moat::attacks
