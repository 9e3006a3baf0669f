#pragma once

#include <string>
#include <vector>

#include "models/classifier.h"
#include "train/certify/lipschitz.h"

namespace moat::train {

// Lipschitz constants of a model's parts on all images in [0, 1], in L∞ distance: interval bounds'
// slopes, with the last linear layer merged per pair.
struct ModelConstants {
  std::vector<Pairs> experts;  // of f_i,a - f_i,b
  std::vector<Pairs> largest;  // |f_i,a - f_i,b| at most
  Pairs scores{0};             // of s_i - s_j; of a routed model
  // Of a dual model, standard and robust; the rest is empty.
  std::vector<ModelConstants> parts;

  // Of softmax(s)_i: 1/4 of the largest over j of the constant of s_i - s_j.
  double gate(int expert) const;
};
ModelConstants model_constants(const models::Classifier& model);

// The cone of the model's outputs around each image, float [n, h, w, c]. For a dual model of
// probabilities that of their average.
std::vector<Cone> cones(const models::Classifier& model, const ModelConstants& constants,
                        const engine::Tensor& images);

// The radius at which `prediction` of each image is proven to stay; for a dual model of
// probabilities the larger of dual_radius and that of the average's cone.
std::vector<double> lipschitz_radii(const models::Classifier& model,
                                    const ModelConstants& constants, const engine::Tensor& images,
                                    const std::vector<int>& predictions);

// One line of a table: a constant, what it bounds, and the largest slope seen at sampled images,
// which it cannot be below.
struct LipschitzConstant {
  std::string name;  // "robust.expert 1: logits"
  std::string
      bounds;  // "|(z_a - z_b)(x) - (z_a - z_b)(x')| / |x - x'|∞, any a, b, x, x' in [0, 1]"
  double bound = 0;    // an upper bound
  double local = 0;    // the same where x, x' lie in the ball of eps around a sampled image: the
                       // largest; an upper bound there
  double sampled = 0;  // a lower bound of `bound`: the largest ‖gradient‖₁ at sampled images
};
std::vector<LipschitzConstant> constants_table(const models::Classifier& model,
                                               const ModelConstants& constants,
                                               const engine::Tensor& images, double eps);

}  // namespace moat::train
