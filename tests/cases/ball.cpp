#include "engine/ops/ball.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/apgd.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/fab_step.h"
#include "tests/box_plane_reference.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

// The step and both projections in plain float64, with no directed rounding.
Tensor ball_reference(const Tensor& x, const Tensor& gradient, const Tensor& center,
                      const BallStep& step) {
  const Tensor y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t images = x.dim(0), pixels = images ? x.size() / images : 0;
  for (int64_t image = 0; image < images; ++image) {
    const int64_t at = image * pixels;
    const auto norm_of = [&](const std::vector<double>& v) {
      double square = 0;
      for (double value : v) square += value * value;
      return std::sqrt(square);
    };
    std::vector<double> g(f64(gradient) + at, f64(gradient) + at + pixels), offset(g.size());
    const double length = std::max(norm_of(g), 1e-300);
    for (size_t i = 0; i < g.size(); ++i) {
      const double direction =
          step.norm == Norm::l2 ? g[i] / length : double((g[i] > 0) - (g[i] < 0));
      offset[i] = f64(x)[size_t(at) + i] + step.step * direction - f64(center)[size_t(at) + i];
      if (step.norm == Norm::linf) offset[i] = std::clamp(offset[i], -step.eps, step.eps);
    }
    const double shrink =
        step.norm == Norm::l2 ? std::min(1.0, step.eps / std::max(norm_of(offset), 1e-300)) : 1;
    for (size_t i = 0; i < g.size(); ++i)
      f64(y)[size_t(at) + i] =
          std::clamp(f64(center)[size_t(at) + i] + shrink * offset[i], 0.0, 1.0);
  }
  return y;
}

// Images in the box, and points around them in it.
Tensor center_of(const Shape& shape, uint32_t stream) {
  return clamp(affine(randn(shape, stream), 0.3, 0.5), 0, 1);
}
Tensor near(const Tensor& center, uint32_t stream, double eps) {
  return clamp(add(center, scale(randn(center.shape(), stream), eps)), 0, 1);
}

OpCase ball_case(const Shape& shape, const BallStep& step) {
  const auto inputs = [=] {
    const Tensor center = center_of(shape, 10);
    return Tensors{near(center, 11, step.eps), randn(shape, 12), center};
  };
  return {
      .name = std::string("ball_step ") + (step.norm == Norm::linf ? "linf " : "l2 ") + shape.str(),
      .inputs = inputs,
      .op = [=](const Tensors& in) { return Tensors{ball_step(in[0], in[1], in[2], step)}; },
      .reference =
          [=](const Tensors& in) { return Tensors{ball_reference(in[0], in[1], in[2], step)}; },
      .f32 = 3e-7,  // rounding to float32 in [0, 1] and one directed ulp on top
      .bytes = 16.0 * static_cast<double>(shape.count())};
}

// A step towards the gradient and one with momentum, each projected, image by image.
Tensor apgd_reference(const Tensors& in, const ApgdStep& step) {
  const Tensor &x = in[0], &previous = in[1], &gradient = in[2], &center = in[3];
  const Tensor y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t images = x.dim(0), pixels = images ? x.size() / images : 0;
  const auto norm_of = [&](const std::vector<double>& v) {
    double square = 0;
    for (double value : v) square += value * value;
    return std::sqrt(square);
  };
  for (int64_t image = 0; image < images; ++image) {
    const auto row = [&](const Tensor& t) {
      return std::vector<double>(f64(t) + image * pixels, f64(t) + (image + 1) * pixels);
    };
    const auto from = row(x), before = row(previous), c = row(center);
    const auto project = [&](std::vector<double> point) {
      for (size_t i = 0; i < point.size(); ++i) point[i] -= c[i];
      const double shrink = step.eps / std::max(norm_of(point), 1e-300);
      for (size_t i = 0; i < point.size(); ++i) {
        const double offset = step.norm == kernels::Norm::l2
                                  ? point[i] * std::min(shrink, 1.0)
                                  : std::clamp(point[i], -step.eps, step.eps);
        point[i] = std::clamp(c[i] + offset, 0.0, 1.0);
      }
      return point;
    };
    std::vector<double> g = row(gradient), z = from, to = from;
    const double length = std::max(norm_of(g), 1e-300), size = f64(in[4])[image];
    for (size_t i = 0; i < z.size(); ++i)
      z[i] += size * (step.norm == kernels::Norm::l2 ? g[i] / length : (g[i] > 0) - (g[i] < 0));
    z = project(z);
    for (size_t i = 0; i < z.size(); ++i)
      to[i] += step.momentum * (z[i] - from[i]) + (1 - step.momentum) * (from[i] - before[i]);
    to = project(to);
    std::copy(to.begin(), to.end(), f64(y) + image * pixels);
  }
  return y;
}

Tensor fab_step_reference(const Tensors& in, const FabStep& step) {
  const Tensor& x = in[0];
  const Tensor y = Tensor::empty(x.shape(), Dtype::f64);
  const int64_t images = x.dim(0), pixels = images ? x.size() / images : 0;
  for (int64_t i = 0; i < images; ++i) {
    const auto row = [&](const Tensor& t) {
      return std::vector<double>(f64(t) + i * pixels, f64(t) + (i + 1) * pixels);
    };
    const std::vector<double> to = fab_reference(row(in[0]), row(in[1]), row(in[2]), f64(in[3])[i],
                                                 step.norm, step.pull, step.overshoot);
    std::copy(to.begin(), to.end(), f64(y) + i * pixels);
  }
  return y;
}

OpCase apgd_case(const Shape& shape, const ApgdStep& step) {
  const auto inputs = [=] {
    const Tensor center = center_of(shape, 13);
    return Tensors{near(center, 14, step.eps), near(center, 15, step.eps), randn(shape, 16), center,
                   abs(scale(randn({shape[0]}, 17), step.eps))};
  };
  return {.name = std::string("apgd_step ") + (step.norm == kernels::Norm::linf ? "linf " : "l2 ") +
                  shape.str(),
          .inputs = inputs,
          .op =
              [=](const Tensors& in) {  // steps are float64 beside any images
                return Tensors{apgd_step(in[0], in[1], in[2], in[3], in[4].to(Dtype::f64), step)};
              },
          .reference = [=](const Tensors& in) { return Tensors{apgd_reference(in, step)}; },
          .f32 = 3e-7,  // as above
          .bytes = 20.0 * static_cast<double>(shape.count())};
}

OpCase fab_case(const Shape& shape, Norm norm) {
  const auto inputs = [=] {
    const Tensor center = center_of(shape, 13);
    return Tensors{near(center, 14, 0.03), center, randn(shape, 15), randn({shape[0]}, 16)};
  };
  const FabStep step{.norm = norm};
  return {
      .name = std::string("fab_step ") + (norm == Norm::linf ? "linf " : "l2 ") + shape.str(),
      .inputs = inputs,
      .op = [=](const Tensors& in) { return Tensors{fab_step(in[0], in[1], in[2], in[3], step)}; },
      .reference = [=](const Tensors& in) { return Tensors{fab_step_reference(in, step)}; },
      .bytes = 16.0 * static_cast<double>(shape.count())};
}

}  // namespace

std::vector<OpCase> ball_cases(Scale scale) {
  std::vector<OpCase> out;
  for (const BallStep& step : {BallStep{.norm = Norm::linf, .eps = 8.0 / 255, .step = 2.0 / 255},
                               {.norm = Norm::l2, .eps = 0.5, .step = 0.1}}) {
    if (scale == Scale::bench) {
      out.push_back(ball_case({512, 32, 32, 3}, step));
      out.push_back(apgd_case({512, 32, 32, 3}, {step.norm, step.eps, 0.75}));
      continue;
    }
    for (const Shape& shape :
         {Shape{4, 8, 8, 3}, {3, 7, 5, 1}, {0, 4, 4, 3}, {2, 0}, {1, 1}, {5}}) {
      out.push_back(ball_case(shape, step));
      out.push_back(apgd_case(shape, {step.norm, step.eps, 0.75}));
    }
  }
  for (Norm norm : {Norm::linf, Norm::l2}) {
    if (scale == Scale::bench) {
      out.push_back(fab_case({512, 32, 32, 3}, norm));
      continue;
    }
    for (const Shape& shape : {Shape{4, 8, 8, 3}, {3, 7, 5, 1}, {0, 4, 4, 3}, {2, 0}, {1, 1}, {5}})
      out.push_back(fab_case(shape, norm));
  }
  return out;
}

}  // namespace moat::tests
