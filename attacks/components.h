#pragma once

#include "attacks/model.h"
#include "attacks/pgd.h"

namespace moat::attacks {

// The parts of a mixture as models of their own, which any attack can be run on. `model` routes
// whole images (Model::routes, along); what is returned holds a copy of it.

// One expert, whatever the router says: a dense model.
Model expert_alone(const Model& model, int route);

// The router's choice between one route and all the others, as two logits: the lead of the best of
// the others over `route`, and 0. Class 1 is where the route is chosen.
Model choice_of_route(const Model& model, int route);

// How far away each victim's nearest other route is, to first order: the least over routes j of
// (s_i - s_j) / ‖grad (s_i - s_j)‖ in the dual norm, for its own route i; exact for a linear
// router, the box aside. Needs a model with scores; infinite where they do not depend on the
// pixels.
std::vector<double> route_distances(const Model& model, const Victims& victims, engine::Norm norm);

// Which of the victims resist, and how many images went through the model.
struct Resisted {
  std::vector<bool> images;
  int64_t forwards = 0, backwards = 0;
};

// Component robustness as Zhang et al. 2025 define it, on the mixture with one part frozen at the
// clean image: `settings` attacks the experts along each image's own route (RA-E), or the router:
// an image resists when no route that the attack reaches has an expert that is wrong about the
// clean image (RA-R); the router is climbed by its margin. Images that are wrong clean do not
// resist. Throws for a model without routes, and for one with a soft gate.
Resisted resist_with_frozen_router(const Model& model, const Victims& victims, const Pgd& settings);
Resisted resist_with_frozen_experts(const Model& model, const Victims& victims,
                                    const Pgd& settings);

}  // namespace moat::attacks
