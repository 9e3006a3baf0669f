#pragma once

// A linear classifier under attack, whose worst point has a closed form.

#include <algorithm>
#include <cmath>

#include "attacks/attack.h"
#include "attacks/objective.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/attack_fixture.h"
#include "tests/models_fixture.h"

namespace moat::tests {

namespace linear_victims {

using namespace engine;
using namespace attacks;
using attacks::Gate;

// logits = weight · pixels + bias, over images of any shape; counts the images it sees.
struct Linear {
  Shape shape;  // of the images
  Tensor weight, bias;
  mutable int64_t seen = 0;

  // `certainty` is how far the bias favours class 0.
  Linear(const Shape& images, int classes, double certainty)
      : shape(images),
        weight(random_uniform({classes, images[1] * images[2] * images[3]}, row_numbers(classes),
                              {.seed = 2}, -1, 1)),
        bias(Tensor::zeros({classes})) {
    bias.data_as<float>()[0] = static_cast<float>(certainty);
  }
  double slope(int64_t pixel) const {  // of z_1 - z_0
    const float* w = weight.data_as<float>();
    return double(w[weight.dim(1) + pixel]) - double(w[pixel]);
  }
  Model model() const {
    return {.forward = [this](const Tensor& images, Gate) {
      seen += images.dim(0);
      return Outputs{linear(reshape(images, {images.dim(0), -1}), weight, bias)};
    }};
  }
  // Images as this model sees them, so that every attack starts from "right".
  Victims victims(double low = 0, double high = 1) const {
    const Tensor images = random_uniform(shape, row_numbers(shape[0]), {.seed = 3}, low, high);
    const Tensor labels = argmax(model().forward(images, Gate::open).logits, 1);
    seen = 0;
    return {images, labels, row_numbers(shape[0]), {}};
  }
};

// On the stored float32 values, in float64.
inline bool inside(const Tensor& adversarial, const Tensor& images, const ThreatModel& threat) {
  const auto x = values(adversarial), c = values(images);
  const size_t pixels = x.size() / static_cast<size_t>(std::max<int64_t>(images.dim(0), 1));
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % pixels == 0) squares = 0;
    const double d = double(x[i]) - double(c[i]);
    squares += d * d;
    if (!(x[i] >= 0 && x[i] <= 1)) return false;
    if (threat.norm == Norm::linf ? std::abs(d) > threat.eps
                                  : std::sqrt(squares) > threat.eps * (1 + 1e-6))
      return false;
  }
  return true;
}

// max_{i≠y} z_i - z_y.
inline std::vector<float> margins(const Linear& net, const Tensor& images, const Victims& v) {
  const Tensor loss = loss_of(Loss::margin, net.model().forward(images, Gate::open).logits, v);
  return values(loss);
}

}  // namespace linear_victims

}  // namespace moat::tests
