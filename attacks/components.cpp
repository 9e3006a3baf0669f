#include "attacks/components.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

void require_routes(const Model& model) {
  require(model.routes > 1 && model.along,
          "the parts of a mixture are attacked one at a time: the model must route whole images");
  require(!model.is_soft,
          "a part of a mixture is frozen at the image's own route: a soft gate has no one route");
}

Tensor constant_route(int route, const Tensor& images) {
  Tensor routes = Tensor::empty({images.dim(0)}, Dtype::i32, images.device());
  routes.fill(route);
  return routes;
}

// What a model says of images, outside of any tape.
std::vector<int32_t> routes_of(const Model& model, const Tensor& images) {
  const NoTapeScope not_recorded;
  return model.forward(images, Gate::blocked).experts.to_vector<int32_t>();
}
std::vector<int32_t> predicted_along(const Model& model, const Tensor& images, int route) {
  const NoTapeScope not_recorded;
  return argmax(model.along(images, constant_route(route, images)), 1).to_vector<int32_t>();
}

// The length that `norm` is dual to.
double dual_length(const float* gradient, size_t pixels, Norm norm) {
  double sum = 0;
  for (size_t j = 0; j < pixels; ++j) {
    const double g = gradient[j];
    sum += norm == Norm::linf ? std::abs(g) : g * g;
  }
  return norm == Norm::linf ? sum : std::sqrt(sum);
}

void add_cost(Resisted& to, const AttackResult& of) {
  to.forwards += of.forwards;
  to.backwards += of.backwards;
}

}  // namespace

Model expert_alone(const Model& model, int route) {
  return {.forward = [along = model.along, route](const Tensor& images, Gate) -> Outputs {
    return {along(images, constant_route(route, images))};
  }};
}

Model choice_of_route(const Model& model, int route) {
  return {.forward = [forward = model.forward, route](const Tensor& images, Gate) -> Outputs {
    const Tensor scores = forward(images, Gate::blocked).scores;
    const Tensor lead = reshape(margin(scores, constant_route(route, images)), {images.dim(0), 1});
    return {concat({lead, scale(lead, 0)}, 1)};
  }};
}

std::vector<double> route_distances(const Model& model, const Victims& victims, Norm norm) {
  const NoTapeScope outside;
  const Outputs chosen = model.forward(victims.images, Gate::open);
  const std::vector<int32_t> routes = chosen.experts.to_vector<int32_t>();
  const std::vector<float> scores = chosen.scores.to_vector<float>();
  const size_t n = routes.size(), count = static_cast<size_t>(chosen.scores.dim(1)),
               pixels = static_cast<size_t>(victims.images.size()) / n;
  std::vector<double> nearest(n, INFINITY);
  for (size_t other = 1; other < count; ++other) {
    std::vector<float> direction(scores.size());
    std::vector<double> gap(n);
    for (size_t i = 0; i < n; ++i) {
      const size_t own = static_cast<size_t>(routes[i]), row = i * count;
      const size_t mine = row + own, theirs = row + (own + other) % count;
      direction[mine] = 1;
      direction[theirs] = -1;
      gap[i] = double{scores[mine]} - double{scores[theirs]};
    }
    Tape tape;
    const Tensor x = tape.watch(victims.images);
    const Tensor recorded = model.forward(x, Gate::open).scores;
    const Tensor gradient =
        tape.gradients(recorded, Tensor::from(direction, recorded.shape(), recorded.device()))
            .of(x);
    if (!gradient.defined()) continue;
    const std::vector<float> g = gradient.to_vector<float>();
    for (size_t i = 0; i < n; ++i)
      if (const double length = dual_length(&g[i * pixels], pixels, norm); length > 0)
        nearest[i] = std::min(nearest[i], gap[i] / length);
  }
  return nearest;
}

Resisted resist_with_frozen_router(const Model& model, const Victims& victims,
                                   const Pgd& settings) {
  require_routes(model);
  const std::vector<int32_t> own = routes_of(model, victims.images),
                             labels = victims.labels.to_vector<int32_t>();
  Resisted out{.images = std::vector<bool>(own.size())};
  for (int route = 0; route < model.routes; ++route) {
    std::vector<int32_t> rows;
    for (size_t i = 0; i < own.size(); ++i)
      if (own[i] == route) rows.push_back(static_cast<int32_t>(i));
    if (rows.empty()) continue;
    const Victims some = victims.rows(rows);
    const AttackResult result = pgd(expert_alone(model, route), some, settings);
    const std::vector<int32_t> clean = predicted_along(model, some.images, route);
    add_cost(out, result);
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row = static_cast<size_t>(rows[i]);
      out.images[row] = clean[i] == labels[row] && result.fooled_at[i] < 0;
    }
  }
  return out;
}

Resisted resist_with_frozen_experts(const Model& model, const Victims& victims,
                                    const Pgd& settings) {
  require_routes(model);
  const std::vector<int32_t> own = routes_of(model, victims.images),
                             labels = victims.labels.to_vector<int32_t>();
  Resisted out{.images = std::vector<bool>(own.size(), true)};
  Pgd steer = settings;
  steer.objective.loss = Loss::margin;  // scores may be far apart
  for (int route = 0; route < model.routes; ++route) {
    const std::vector<int32_t> predicted = predicted_along(model, victims.images, route);
    std::vector<int32_t> rows;  // of images that this route would be the end of
    for (size_t i = 0; i < own.size(); ++i) {
      if (predicted[i] == labels[i]) continue;
      if (own[i] == route)
        out.images[i] = false;
      else
        rows.push_back(static_cast<int32_t>(i));
    }
    if (rows.empty()) continue;
    Victims some = victims.rows(rows);
    some.labels.fill(0);  // "another route"
    const AttackResult result = pgd(choice_of_route(model, route), some, steer);
    add_cost(out, result);
    for (size_t i = 0; i < rows.size(); ++i)
      if (result.fooled_at[i] >= 0) out.images[static_cast<size_t>(rows[i])] = false;
  }
  return out;
}

}  // namespace moat::attacks
