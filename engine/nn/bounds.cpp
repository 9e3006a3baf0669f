#include "engine/nn/bounds.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::engine {

namespace {

constexpr double kUnit = 0x1p-53;  // relative error of one float64 operation

Tensor wide(const Tensor& t) { return t.defined() ? t.to(Device{}).to(Dtype::f64) : t; }

Tensor largest_size(const Tensor& low, const Tensor& high) { return maximum(abs(low), abs(high)); }

// As much wider on both sides as `units` roundings of values of this size may have moved a bound.
Bounds outward(const Tensor& low, const Tensor& high, const Tensor& size, double units,
               const Tensor& slope, const Tensor& pixels = {}) {
  const Tensor allowance = scale(size, units * kUnit);
  return {sub(low, allowance), add(high, allowance),
          slope.defined() ? scale(slope, 1 + units * kUnit) : slope, pixels};
}

// The same function of every bound, one that is linear, monotone and rounds nothing.
template <class F>
Bounds each(const Bounds& x, F&& f) {
  const auto of = [&](const Tensor& t) { return t.defined() ? f(t) : t; };
  return {f(x.low), f(x.high), of(x.slope), of(x.pixels)};
}

// Σ_p |pixels_p| of each box.
Tensor reach(const Tensor& pixels, const Shape& shape) {
  return reshape(sum(reshape(abs(pixels), {shape[0], pixels.dim(0) / shape[0], -1}), 1), shape);
}

// What the affine forms leave of the half widths; all of these without forms.
Tensor rest_of(const Bounds& x, const Tensor& half) {
  if (!x.pixels.defined()) return half;
  const double error = static_cast<double>(x.pixels.dim(0) / x.dim(0) + 4) * kUnit;
  return add(relu(sub(half, reach(x.pixels, half.shape()))), scale(half, error));
}

// Bounds of forms: center, pixels and rest.
Bounds around(const Tensor& center, const Tensor& pixels, const Tensor& rest, double units,
              const Tensor& slope) {
  const Tensor half = pixels.defined() ? add(rest, reach(pixels, center.shape())) : rest;
  const Tensor low = sub(center, half), high = add(center, half);
  if (pixels.defined()) units += 2.0 * static_cast<double>(pixels.dim(0) / center.dim(0));
  return outward(low, high, largest_size(low, high), units, slope, pixels);
}

// A linear map with so many products in a sum: `exact` is it, `sizes` the one whose weights are the
// absolute values. The rest starts out wider by the relative error of the sums.
template <class Exact, class Sizes>
Bounds linear_map(const Bounds& x, int64_t products, Exact&& exact, Sizes&& sizes) {
  const Tensor center = scale(add(x.low, x.high), 0.5), half = scale(sub(x.high, x.low), 0.5);
  const double error = static_cast<double>(products + 8) * kUnit;
  // What rounding is relative to, |center| + half, covers center, pixels and rest.
  const Tensor rest = add(rest_of(x, half), scale(largest_size(x.low, x.high), error));
  const int64_t n = x.dim(0);
  const bool has_slope = x.slope.defined();
  const Tensor moved = sizes(has_slope ? concat({rest, x.slope}, 0) : rest);
  const Tensor slope = has_slope ? scale(slice(moved, 0, n, 2 * n), 1 + error) : Tensor{};
  return around(exact(center), x.pixels.defined() ? exact(x.pixels) : Tensor{},
                has_slope ? slice(moved, 0, 0, n) : moved, 4, slope);
}

// The map `of` (x, weights).
template <class Map>
Bounds weighted_map(const Bounds& x, const Tensor& weights, int64_t products, Map&& of) {
  const Tensor size = abs(weights);
  return linear_map(
      x, products, [&](const Tensor& t) { return of(t, weights); },
      [&](const Tensor& t) { return of(t, size); });
}

Bounds stacked(const std::vector<Bounds>& parts, int axis) {
  const auto of = [&](auto member) {
    Tensors tensors;
    for (const Bounds& part : parts) tensors.push_back(part.*member);
    return tensors.front().defined() ? concat(tensors, axis) : Tensor{};
  };
  return {of(&Bounds::low), of(&Bounds::high), of(&Bounds::slope), of(&Bounds::pixels)};
}

}  // namespace

Bounds add(const Bounds& a, const Bounds& b) {
  const auto sum_of = [](const Tensor& x, const Tensor& y) {
    return x.defined() ? add(x, y) : Tensor{};
  };
  const Tensor low = add(a.low, b.low), high = add(a.high, b.high),
               slope = sum_of(a.slope, b.slope);
  if (!a.pixels.defined()) return outward(low, high, largest_size(low, high), 2, slope);
  const auto rest = [](const Bounds& x) { return rest_of(x, scale(sub(x.high, x.low), 0.5)); };
  return around(scale(add(low, high), 0.5), add(a.pixels, b.pixels), add(rest(a), rest(b)), 8,
                slope);
}

Bounds affine(const Bounds& x, const Tensor& scale_by, const Tensor& shift) {
  const Tensor a = mul(x.low, scale_by), b = mul(x.high, scale_by);
  const Tensor high = maximum(a, b), low = scale(maximum(scale(a, -1), scale(b, -1)), -1);
  const Tensor size = add(largest_size(low, high), abs(shift));
  return outward(add(low, shift), add(high, shift), size, 8,
                 x.slope.defined() ? mul(x.slope, abs(scale_by)) : Tensor{},
                 x.pixels.defined() ? mul(x.pixels, scale_by) : Tensor{});
}

Bounds relu(const Bounds& x) {
  const Tensor high = relu(x.high), below = relu(scale(x.low, -1));
  const Tensor slope = x.slope.defined() ? mul(x.slope, sign(high)) : x.slope;
  if (!x.pixels.defined()) return {relu(x.low), high, slope};
  // Where it is not known which side of 0 a value is on, relu(v) lies in gain · v + [0, 2 shift];
  // else gain is 0 or 1 and shift 0.
  const Tensor gain = div(high, affine(add(high, below), 1, 1e-300));
  const Tensor shift = scale(mul(gain, below), 0.5), half = scale(sub(x.high, x.low), 0.5);
  const Tensor rest = add(mul(gain, rest_of(x, half)), shift);
  const Tensor center = add(mul(gain, scale(add(x.low, x.high), 0.5)), shift);
  const Tensor gains = reshape(gain, {x.dim(0), 1, gain.size() / x.dim(0)});
  const Tensor pixels = mul(reshape(x.pixels, {x.dim(0), x.pixels.dim(0) / x.dim(0), -1}), gains);
  return around(center, reshape(pixels, x.pixels.shape()), rest, 16, slope);
}

Bounds conv2d(const Bounds& x, const Tensor& filter, const Conv2dOptions& options) {
  const Tensor weights = wide(filter);
  return weighted_map(x, weights, weights.size() / weights.dim(0),
                      [&](const Tensor& t, auto& w) { return conv2d(t, w, options); });
}

Bounds linear(const Bounds& x, const Tensor& weight, const Tensor& bias) {
  const Tensor weights = wide(weight);
  const Bounds y = weighted_map(x, weights, weights.dim(1),
                                [](const Tensor& t, auto& w) { return linear(t, w, {}); });
  return bias.defined() ? affine(y, Tensor::full(bias.shape(), 1, Dtype::f64), wide(bias)) : y;
}

Differences linear_differences(const Bounds& x, const Tensor& weight, const Tensor& bias) {
  const Tensor w = wide(weight), b = wide(bias);
  std::vector<Bounds> rows;
  for (int64_t a = 0; a < w.dim(0); ++a) {
    Bounds row = linear(x, sub(slice(w, 0, a, a + 1), w), sub(slice(b, 0, a, a + 1), b));
    row.pixels = {};  // nobody asks behind the last layer
    rows.push_back(reshape(row, {x.dim(0), 1, w.dim(0)}));
  }
  return {stacked(rows, 1), max(linear(largest_size(x.low, x.high), abs(w), abs(b)), 1)};
}

Bounds max_pool2d(const Bounds& x, int window, int stride, int padding) {
  const auto pooled = [&](const Tensor& t) { return max_pool2d(t, window, stride, padding); };
  Bounds y = {pooled(x.low), pooled(x.high)};
  if (x.slope.defined()) y.slope = pooled(x.slope);
  if (x.pixels.defined()) y.pixels = scale(pooled(x.pixels), 0);  // a form ends here
  return y;
}

Bounds avg_pool2d(const Bounds& x, int window, int stride) {
  const auto pooled = [&](const Tensor& t) { return avg_pool2d(t, window, stride); };
  return linear_map(x, int64_t{window} * window, pooled, pooled);
}

Bounds global_avg_pool(const Bounds& x) {
  const auto pooled = [](const Tensor& t) { return global_avg_pool(t); };
  return linear_map(x, x.dim(1) * x.dim(2), pooled, pooled);
}

Bounds subsample_pad(const Bounds& x, int stride, int c_out) {
  return each(x, [&](const Tensor& t) { return subsample_pad(t, stride, c_out); });
}

Bounds concat(const Bounds& a, const Bounds& b, int axis) { return stacked({a, b}, axis); }

Bounds permute(const Bounds& x, const Shape& axes) {
  return each(x, [&](const Tensor& t) { return permute(t, axes); });
}

Bounds reshape(const Bounds& x, const Shape& shape) {
  return each(x, [&](const Tensor& t) {
    Shape own = shape;
    own[0] = shape[0] * (t.dim(0) / x.dim(0));
    return reshape(t, own);
  });
}

Bounds gather_rows(const Bounds& x, const Tensor& index) {
  const auto rows = index.to_vector<int32_t>();
  return each(x, [&](const Tensor& t) {
    const auto per_box = static_cast<int32_t>(t.dim(0) / x.dim(0));
    std::vector<int32_t> all;
    for (int32_t row : rows)
      for (int32_t p = 0; p < per_box; ++p) all.push_back(row * per_box + p);
    return gather_rows(t, Tensor::from(all, {static_cast<int64_t>(all.size())}));
  });
}

Bounds bounds(const BatchNorm& norm, const Bounds& x, Activation activation) {
  const Tensor mean = wide(norm.running_mean), variance = wide(norm.running_var);
  const Tensor deviation = sqrt(affine(variance, 1, norm.options.epsilon));
  const Tensor one = Tensor::full(mean.shape(), 1, Dtype::f64);
  const Tensor gain = div(norm.weight.defined() ? wide(norm.weight) : one, deviation);
  const Tensor shift = norm.bias.defined() ? wide(norm.bias) : scale(one, 0);
  const Bounds y = affine(affine(x, one, scale(mean, -1)), gain, shift);
  return activation == Activation::relu ? relu(y) : y;
}

Bounds bounds(const Linear& layer, const Bounds& x) { return linear(x, layer.weight, layer.bias); }

Bounds bounds(const ConvLayer& layer, const Bounds& x, int expert, const Bounds& residual,
              Activation activation) {
  const NoTapeScope not_recorded;
  const Tensor filter = layer.chosen_filter();
  const int64_t width = filter.dim(0) / layer.experts, from = layer.experts > 1 ? expert : 0;
  require(from >= 0 && from < layer.experts, [&] {
    return text("bounds: the expert must be from 0 to ", layer.experts - 1, ", got ", expert);
  });
  Bounds y = conv2d(x, filter.sliced(0, from * width, (from + 1) * width), layer.options);
  if (layer.norm) y = bounds(*layer.norm, y, Activation::none);
  if (residual.defined()) y = add(y, residual);
  return activation == Activation::relu ? relu(y) : y;
}

}  // namespace moat::engine
