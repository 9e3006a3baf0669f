#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "attacks/objective.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/models_fixture.h"

namespace moat::tests {

// A mixture of linear maps with a linear router, images [n, 1, 1, pixels], twice: as an attack sees
// it, and in float64 loops.
struct LinearMoe {
  using Numbers = std::vector<double>;
  int pixels, classes, experts;
  Numbers expert_weight, expert_bias;  // [experts, classes, pixels], [experts, classes]
  Numbers router_weight, router_bias;  // [experts, pixels], [experts]
  mutable int64_t calls = 0;           // images it was shown

  LinearMoe(int p, int c, int e)
      : pixels(p),
        classes(c),
        experts(e),
        expert_weight(size_t(e * c * p)),
        expert_bias(size_t(e * c)),
        router_weight(size_t(e * p)),
        router_bias(size_t(e)) {}

  static Numbers map(const Numbers& w, const Numbers& b, int rows, int from, const Numbers& x) {
    Numbers y;
    for (int r = from; r < from + rows; ++r) {
      double sum = b[size_t(r)];
      for (size_t j = 0; j < x.size(); ++j) sum += w[size_t(r) * x.size() + j] * x[j];
      y.push_back(sum);
    }
    return y;
  }
  Numbers scores(const Numbers& x) const { return map(router_weight, router_bias, experts, 0, x); }
  Numbers logits(const Numbers& x, int e) const {
    return map(expert_weight, expert_bias, classes, e * classes, x);
  }
  int route(const Numbers& x) const {
    const Numbers s = scores(x);
    return static_cast<int>(std::max_element(s.begin(), s.end()) - s.begin());
  }

  attacks::Model model() const {
    using engine::Tensor;
    const auto mapped = [this](const Tensor& images, const Numbers& w, const Numbers& b, int rows,
                               int from) {
      const auto cut = [&](const Numbers& v, int64_t width, const engine::Shape& shape) {
        const auto begin = v.begin() + from * width;
        return Tensor::from(Numbers(begin, begin + rows * width), shape).to(images.dtype());
      };
      return linear(reshape(images, {images.dim(0), pixels}), cut(w, pixels, {rows, pixels}),
                    cut(b, 1, {rows}));
    };
    const auto along = [this, mapped](const Tensor& images, const Tensor& route) {
      calls += images.dim(0);
      engine::Tensors each;
      for (int e = 0; e < experts; ++e)
        each.push_back(mapped(images, expert_weight, expert_bias, classes, e * classes));
      std::vector<int32_t> rows = route.to_vector<int32_t>();
      for (size_t i = 0; i < rows.size(); ++i)
        rows[i] = rows[i] * static_cast<int32_t>(rows.size()) + static_cast<int32_t>(i);
      return gather_rows(concat(each, 0), attacks::index_of(rows));
    };
    return {.forward =
                [this, mapped, along](const Tensor& images, attacks::Gate) {
                  const Tensor s = mapped(images, router_weight, router_bias, experts, 0);
                  const Tensor route = argmax(s.detached(), 1);
                  return attacks::Outputs{along(images, route), route, s};
                },
            .routed = true,
            .routes = experts,
            .along = along};
  }
};

// Weights and biases of a normal distribution.
inline LinearMoe random_linear_moe(int pixels, int classes, int experts, uint32_t stream = 0) {
  LinearMoe moe(pixels, classes, experts);
  for (LinearMoe::Numbers* numbers :
       {&moe.expert_weight, &moe.expert_bias, &moe.router_weight, &moe.router_bias}) {
    const auto n = static_cast<int64_t>(numbers->size());
    *numbers = engine::random_normal({n, 1}, row_numbers(n), {.seed = 4, .stream = ++stream}, 0, 1,
                                     engine::Dtype::f64)
                   .to_vector<double>();
  }
  return moe;
}

inline LinearMoe::Numbers image_of(const engine::Tensor& images, int64_t i) {
  return images.sliced(0, i, i + 1).contiguous().to(engine::Dtype::f64).to_vector<double>();
}

}  // namespace moat::tests
