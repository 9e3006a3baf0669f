#include "tests/op_case.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"

namespace moat::tests {

using namespace engine;

namespace {

bool listed(const std::vector<int>& list, size_t i) {
  return std::find(list.begin(), list.end(), static_cast<int>(i)) != list.end();
}

Tensors converted(const OpCase& c, Dtype dtype, Device device = {}) {
  Tensors out = c.inputs();
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].defined() && is_floating(out[i].dtype()))
      out[i] = out[i].to(dtype == Dtype::bf16 && listed(c.keep_float32, i) ? Dtype::f32 : dtype);
    out[i] = out[i].to(device);
  }
  return out;
}

// The inputs as the op really sees them, on the CPU in float64.
Tensors exact(Tensors inputs) {
  for (Tensor& x : inputs) {
    x = x.to(Device{});
    if (x.defined() && is_floating(x.dtype())) x = x.to(Dtype::f64);
  }
  return inputs;
}

double dot(const Tensor& a, const Tensor& b) {
  const auto x = a.to(Dtype::f64).to_vector<double>(), y = b.to(Dtype::f64).to_vector<double>();
  double s = 0;
  for (size_t i = 0; i < x.size(); ++i) s += x[i] * y[i];
  return s;
}

// |got - want| <= tolerance · bound for every element; NaN and infinities must agree exactly.
void check_close(const std::string& what, const Tensor& got, const Tensor& want,
                 const Tensor& bound, double tolerance) {
  INFO(what);
  REQUIRE(got.shape().str() == want.shape().str());
  if (!is_floating(got.dtype())) {
    CHECK(same_bits(got, want));
    return;
  }
  const auto g = got.to(Dtype::f64).to_vector<double>(),
             w = want.to(Dtype::f64).to_vector<double>();
  std::vector<double> b;
  if (bound.defined()) b = bound.to(Dtype::f64).to_vector<double>();
  double largest = 1;
  for (double v : w)
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < g.size(); ++i) {
    const bool same = g[i] == w[i] || (std::isnan(g[i]) && std::isnan(w[i]));
    const double allowed = tolerance * (b.empty() ? largest : std::max(b[i], 1e-30));
    if (!same && !(std::abs(g[i] - w[i]) <= allowed)) {
      INFO("element " << i << ": got " << g[i] << ", want " << w[i] << " within " << allowed);
      FAIL_CHECK(what);
      return;
    }
  }
  SUCCEED();
}

void check_forward(const OpCase& c, Dtype dtype, double tolerance, Device device = {}) {
  const Tensors inputs = converted(c, dtype, device), exact_inputs = exact(inputs);
  const Tensors want = c.reference(exact_inputs);
  const Tensors bounds = c.bound ? c.bound(exact_inputs) : Tensors{};
  Tensors got;
  {
    const PoisonScope poison;
    got = c.op(inputs);
  }
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i)
    check_close(text(c.name, " forward ", name_of(dtype), " output ", i), got[i], want[i],
                i < bounds.size() ? bounds[i] : Tensor{}, tolerance);
}

// The vector-Jacobian product of sum(outputs · seeds), one gradient per differentiable input.
Tensors vjp(const OpCase& c, Tensors inputs, const Tensors& seeds) {
  Tape tape;
  for (int i : c.differentiable) inputs[size_t(i)] = tape.watch(inputs[size_t(i)]);
  const Tensors outputs = c.op(inputs);
  Tensor total;
  for (int o : c.differentiable_outputs) {
    const Tensor& y = outputs[size_t(o)];
    const Tensor term = sum(mul(y, seeds[size_t(o)].to(y.dtype()).to(y.device())));
    total = total.defined() ? add(total, term) : term;
  }
  const Gradients grads = tape.gradients(total);
  Tensors out;
  for (int i : c.differentiable) {
    const Tensor& x = inputs[size_t(i)];
    const Tensor g = grads.of(x);
    out.push_back(g.defined() ? g : Tensor::zeros(x.shape(), x.dtype(), x.device()));
  }
  return out;
}

Tensors seeds_for(const OpCase& c) {
  Tensors seeds;
  const Tensors outputs = c.op(c.inputs());
  for (size_t o = 0; o < outputs.size(); ++o)
    seeds.push_back(listed(c.differentiable_outputs, o)
                        ? randn(outputs[o].shape(), 900 + uint32_t(o))
                        : Tensor{});
  return seeds;
}

// <v, Jᵀu> from the tape against central differences of <u, J v>.
void check_gradients(const OpCase& c) {
  const Tensors inputs = c.inputs(), seeds = seeds_for(c), grads = vjp(c, inputs, seeds);
  const double h = 1e-6;
  for (size_t d = 0; d < c.differentiable.size(); ++d) {
    const auto i = size_t(c.differentiable[d]);
    const Tensor v = randn(inputs[i].shape(), 800 + uint32_t(i));
    const auto value = [&](double at) {
      Tensors moved = inputs;
      moved[i] = add(moved[i], scale(v, at));
      const Tensors outputs = c.op(moved);
      double s = 0;
      for (int o : c.differentiable_outputs) s += dot(outputs[size_t(o)], seeds[size_t(o)]);
      return s;
    };
    const double numeric = (value(h) - value(-h)) / (2 * h), analytic = dot(v, grads[d]);
    const double error = std::abs(analytic - numeric) / std::max(1.0, std::abs(numeric));
    INFO(c.name << " gradient of input " << i << ": tape " << analytic << ", differences "
                << numeric);
    CHECK(error <= c.gradient);
  }
}

void check_gradients_agree(const OpCase& c, Dtype dtype, double tolerance, Device device = {}) {
  const Tensors seeds = seeds_for(c), inputs = converted(c, dtype, device);
  const Tensors want = vjp(c, exact(inputs), seeds), got = vjp(c, inputs, seeds);
  for (size_t d = 0; d < got.size(); ++d)
    check_close(text(c.name, " gradient ", name_of(dtype), " of input ", c.differentiable[d]),
                got[d], want[d], {}, tolerance);
}

// The same values in memory with the axes reversed, starting at an offset.
Tensor strided_view(const Tensor& x) {
  if (!x.defined() || x.rank() == 0) return x;
  Shape reversed = Shape::of_rank(x.rank(), 0), room;
  for (int i = 0; i < x.rank(); ++i) reversed[i] = x.rank() - 1 - i;
  for (int i = 0; i < x.rank(); ++i) room.push_back(x.shape()[x.rank() - 1 - i] + (i == 0 ? 2 : 0));
  const Tensor inside = Tensor::zeros(room, x.dtype(), x.device()).sliced(0, 1, 1 + x.dim(-1));
  inside.copy_from(x.permuted(reversed).contiguous());
  return inside.permuted(reversed);
}

void check_views_and_repeats(const OpCase& c, Device device = {}) {
  const Tensors inputs = converted(c, Dtype::f32, device);
  Tensors views = inputs;
  for (Tensor& x : views) x = strided_view(x);
  const Tensors first = c.op(inputs), second = c.op(inputs), strided = c.op(views);
  for (size_t i = 0; i < first.size(); ++i) {
    INFO(c.name << " output " << i);
    CHECK(same_bits(first[i], second[i]));
    CHECK(same_bits(first[i], strided[i]));
  }
}

// Each operand in turn left on the CPU is refused before anything runs.
void check_one_device(const OpCase& c, Device gpu) {
  const Tensors inputs = converted(c, Dtype::f32, gpu);
  const auto operands =
      std::count_if(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined(); });
  for (size_t i = 0; operands > 1 && i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    INFO(c.name << ", input " << i << " on the CPU");
    Tensors mixed = inputs;
    mixed[i] = mixed[i].to(Device{});
    CHECK_THROWS_WITH(c.op(mixed), Catch::Contains("operands must share one device"));
  }
}

}  // namespace

void check_op(const OpCase& c) {
  check_forward(c, Dtype::f64, c.f64);
  check_forward(c, Dtype::f32, c.f32);
  if (c.bf16 > 0) check_forward(c, Dtype::bf16, c.bf16);
  check_views_and_repeats(c);
  if (c.differentiable.empty()) return;
  check_gradients(c);
  check_gradients_agree(c, Dtype::f32, 10 * c.f32);
  if (c.bf16 > 0) check_gradients_agree(c, Dtype::bf16, 4 * c.bf16);
}

void check_op_on(Device gpu, const OpCase& c) {
  check_forward(c, Dtype::f64, c.f64, gpu);
  check_forward(c, Dtype::f32, c.f32, gpu);
  if (c.bf16 > 0) check_forward(c, Dtype::bf16, c.bf16, gpu);
  check_views_and_repeats(c, gpu);
  check_one_device(c, gpu);
  if (c.differentiable.empty()) return;
  check_gradients_agree(c, Dtype::f64, 1e-10, gpu);
  check_gradients_agree(c, Dtype::f32, 10 * c.f32, gpu);
  if (c.bf16 > 0) check_gradients_agree(c, Dtype::bf16, 4 * c.bf16, gpu);
}

}  // namespace moat::tests
