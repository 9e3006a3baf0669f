#include "attacks/random_points.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"

namespace moat::attacks {

using namespace engine;

namespace {

// A normal direction of length `radius` [n] on top of each image.
Tensor on_spheres(const Victims& v, const Tensor& radius, const RandomKey& key) {
  const Shape& shape = v.images.shape();
  const int64_t n = shape[0], d = n ? v.images.size() / n : 0;
  const Tensor direction = random_normal(shape, v.ids, key, 0, 1);
  const Tensor length = sqrt(sum(square(direction).reshaped({n, d}), 1));
  return add(v.images, mul(direction, per_image(div(radius, length), v.images)));
}

}  // namespace

Tensor random_signs(const Shape& shape, const Tensor& ids, const RandomKey& key) {
  // Half a step of the 24-bit draws off -1: none of them is 0.
  return sign(random_uniform(shape, ids, key, -1 + 0x1p-24, 1 + 0x1p-24));
}

Tensor uniform_point(const Victims& v, const ThreatModel& threat, const RandomKey& key) {
  const Tensor& x = v.images;
  const double eps = threat.eps;
  if (threat.norm == Norm::linf) {
    const Tensor low = clamp(affine(x, 1, -eps), 0, 1), high = clamp(affine(x, 1, eps), 0, 1);
    const Tensor part = random_uniform(x.shape(), v.ids, key, 0, 1);
    return ball_project(add(low, mul(part, sub(high, low))), x, threat.norm, eps);
  }
  // The radius of a point in the ball has a density ~ r^(d-1).
  const int64_t n = x.dim(0), d = n ? x.size() / n : 0;
  RandomKey radius_key = key;
  radius_key.purpose = Purpose::attack_noise;
  const Tensor part = random_uniform({n, 1}, v.ids, radius_key, 0, 1).reshaped({n});
  const Tensor radius = scale(exp(scale(log(part), 1 / static_cast<double>(d))), eps);
  return ball_project(on_spheres(v, radius, key), x, threat.norm, eps);
}

Tensor extreme_point(const Victims& v, const ThreatModel& threat, const RandomKey& key) {
  const Tensor& x = v.images;
  const Tensor moved =
      threat.norm == Norm::linf
          ? add(x, scale(random_signs(x.shape(), v.ids, key), 2 * threat.eps))
          : on_spheres(v, Tensor::full({x.dim(0)}, threat.eps, Dtype::f32, x.device()), key);
  return ball_project(moved, x, threat.norm, threat.eps);
}

}  // namespace moat::attacks
