#include "engine/nn/bounds.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::engine {

namespace {

constexpr double kUnit = 0x1p-53;  // relative error of one float64 operation

Tensor wide(const Tensor& t) { return t.defined() ? t.to(Device{}).to(Dtype::f64) : t; }

Tensor largest_size(const Tensor& low, const Tensor& high) { return maximum(abs(low), abs(high)); }

// As much wider on both sides as `units` roundings of values of this size may have moved a bound.
Bounds outward(const Tensor& low, const Tensor& high, const Tensor& size, double units,
               const Tensor& slope) {
  const Tensor allowance = scale(size, units * kUnit);
  return {sub(low, allowance), add(high, allowance),
          slope.defined() ? scale(slope, 1 + units * kUnit) : slope};
}

// The same function of every bound, one that is monotone and rounds nothing.
template <class F>
Bounds each(const Bounds& x, F&& f) {
  return {f(x.low), f(x.high), x.slope.defined() ? f(x.slope) : x.slope};
}

// The linear map `of` (x, weights) with so many products in a sum: its value at the centre, and
// what it makes of radius and slope when the weights are their absolute values. The radius starts
// out wider by the relative error of the sums.
template <class Map>
Bounds linear_map(const Bounds& x, const Tensor& weights, int64_t products, Map&& of) {
  const Tensor center = scale(add(x.low, x.high), 0.5), radius = scale(sub(x.high, x.low), 0.5);
  const double error = static_cast<double>(products + 8) * kUnit;
  const Tensor wider = add(radius, scale(largest_size(x.low, x.high), error));
  const int64_t n = x.dim(0);
  const bool has_slope = x.slope.defined();
  const Tensor size = abs(weights);
  // The largest |c| + r is what rounding is relative to, so `wider` covers center and radius.
  const Tensor moved = has_slope ? of(concat({wider, x.slope}, 0), size) : of(wider, size);
  const Tensor mid = of(center, weights), half = has_slope ? slice(moved, 0, 0, n) : moved;
  const Tensor slope = has_slope ? scale(slice(moved, 0, n, 2 * n), 1 + error) : Tensor{};
  const Tensor low = sub(mid, half), high = add(mid, half);
  return outward(low, high, largest_size(low, high), 4, slope);
}

Bounds stacked(const std::vector<Bounds>& parts, int axis) {
  Tensors low, high, slope;
  for (const Bounds& part : parts) {
    low.push_back(part.low);
    high.push_back(part.high);
    if (part.slope.defined()) slope.push_back(part.slope);
  }
  return {concat(low, axis), concat(high, axis), slope.empty() ? Tensor{} : concat(slope, axis)};
}

}  // namespace

Bounds add(const Bounds& a, const Bounds& b) {
  const Tensor low = add(a.low, b.low), high = add(a.high, b.high);
  return outward(low, high, largest_size(low, high), 2,
                 a.slope.defined() ? add(a.slope, b.slope) : Tensor{});
}

Bounds affine(const Bounds& x, const Tensor& scale_by, const Tensor& shift) {
  const Tensor a = mul(x.low, scale_by), b = mul(x.high, scale_by);
  const Tensor high = maximum(a, b), low = scale(maximum(scale(a, -1), scale(b, -1)), -1);
  const Tensor size = add(largest_size(low, high), abs(shift));
  return outward(add(low, shift), add(high, shift), size, 8,
                 x.slope.defined() ? mul(x.slope, abs(scale_by)) : Tensor{});
}

Bounds relu(const Bounds& x) {
  const Tensor high = relu(x.high);
  return {relu(x.low), high, x.slope.defined() ? mul(x.slope, sign(high)) : x.slope};
}

Bounds conv2d(const Bounds& x, const Tensor& filter, const Conv2dOptions& options) {
  const Tensor weights = wide(filter);
  return linear_map(x, weights, weights.size() / weights.dim(0),
                    [&](const Tensor& t, auto& w) { return conv2d(t, w, options); });
}

Bounds linear(const Bounds& x, const Tensor& weight, const Tensor& bias) {
  const Tensor weights = wide(weight);
  const Bounds y = linear_map(x, weights, weights.dim(1),
                              [](const Tensor& t, auto& w) { return linear(t, w, {}); });
  return bias.defined() ? affine(y, Tensor::full(bias.shape(), 1, Dtype::f64), wide(bias)) : y;
}

Bounds linear_differences(const Bounds& x, const Tensor& weight, const Tensor& bias) {
  const Tensor w = wide(weight), b = wide(bias);
  std::vector<Bounds> rows;
  for (int64_t a = 0; a < w.dim(0); ++a) {
    const Bounds row = linear(x, sub(slice(w, 0, a, a + 1), w), sub(slice(b, 0, a, a + 1), b));
    rows.push_back(reshape(row, {x.dim(0), 1, w.dim(0)}));
  }
  return stacked(rows, 1);
}

Bounds max_pool2d(const Bounds& x, int window, int stride, int padding) {
  return each(x, [&](const Tensor& t) { return max_pool2d(t, window, stride, padding); });
}

Bounds avg_pool2d(const Bounds& x, int window, int stride) {
  const Bounds y = each(x, [&](const Tensor& t) { return avg_pool2d(t, window, stride); });
  // Bounds of one sign or both: what is rounded is at most the mean of the sizes.
  return outward(y.low, y.high, avg_pool2d(largest_size(x.low, x.high), window, stride),
                 window * window + 4, y.slope);
}

Bounds global_avg_pool(const Bounds& x) {
  const Bounds y = each(x, [](const Tensor& t) { return global_avg_pool(t); });
  return outward(y.low, y.high, global_avg_pool(largest_size(x.low, x.high)),
                 static_cast<double>(x.dim(1) * x.dim(2) + 4), y.slope);
}

Bounds subsample_pad(const Bounds& x, int stride, int c_out) {
  return each(x, [&](const Tensor& t) { return subsample_pad(t, stride, c_out); });
}

Bounds concat(const Bounds& a, const Bounds& b, int axis) { return stacked({a, b}, axis); }

Bounds permute(const Bounds& x, const Shape& axes) {
  return each(x, [&](const Tensor& t) { return permute(t, axes); });
}

Bounds reshape(const Bounds& x, const Shape& shape) {
  return each(x, [&](const Tensor& t) { return reshape(t, shape); });
}

Bounds gather_rows(const Bounds& x, const Tensor& index) {
  return each(x, [&](const Tensor& t) { return gather_rows(t, index); });
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
