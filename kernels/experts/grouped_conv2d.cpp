#include "kernels/experts/grouped_conv2d.h"

#include "kernels/segments.h"

namespace moat::kernels {

namespace {

template <class Grouped>
const void* filter_of(const Grouped& a, int e) {
  return a.filters ? at(a.filters, e * a.geometry.filter_size(), a.geometry.filter_dtype())
                   : a.expert_filters[e];
}

Conv2d part(const GroupedConv2d& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t first = a.offsets[e];
  return {.x = at(a.x, first * g.x_size(), g.dtype),
          .filter = filter_of(a, e),
          .bias = a.biases ? a.biases[e] : nullptr,
          .residual = a.residual ? at(a.residual, first * g.y_size(), g.dtype) : nullptr,
          .y = at(a.y, first * g.y_size(), g.dtype),
          .n = a.offsets[e + 1] - a.offsets[e],
          .geometry = g,
          .form = a.form,
          .activation = a.activation};
}

Conv2dInputGrad part(const GroupedConv2dInputGrad& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t first = a.offsets[e];
  return {.d_y = at(a.d_y, first * g.y_size(), g.dtype),
          .filter = filter_of(a, e),
          .d_x = at(a.d_x, first * g.x_size(), g.dtype),
          .n = a.offsets[e + 1] - a.offsets[e],
          .geometry = g,
          .form = a.form};
}

Conv2dWeightGrad part(const GroupedConv2dWeightGrad& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int64_t first = a.offsets[e];
  return {.x = at(a.x, first * g.x_size(), g.dtype),
          .d_y = at(a.d_y, first * g.y_size(), g.dtype),
          .d_filter = at(a.d_filters, e * g.filter_size(), g.filter_dtype()),
          .n = a.offsets[e + 1] - a.offsets[e],
          .geometry = g};
}

template <class Grouped, class Size>
size_t largest(const Grouped& a, Size&& size) {
  if (!are_segments(a.offsets, a.experts)) return 0;
  return largest_of_experts(a.experts, [&](int e) { return size(part(a, e)); });
}

template <class Grouped, class Kernel>
Status for_each_part(const Grouped& a, Kernel&& kernel) {
  if (!are_segments(a.offsets, a.experts)) return Status::bad_args;
  return for_each_expert(a.experts, [&](int e) { return kernel(part(a, e)); });
}

}  // namespace

size_t grouped_conv2d_workspace(Cpu on, const GroupedConv2d& a) {
  return largest(a, [&](const Conv2d& one) { return conv2d_workspace(on, one); });
}
Status grouped_conv2d(Cpu on, const GroupedConv2d& a) {
  return for_each_part(a, [&](const Conv2d& one) { return conv2d(on, one); });
}

size_t grouped_conv2d_input_grad_workspace(Cpu on, const GroupedConv2dInputGrad& a) {
  return largest(a,
                 [&](const Conv2dInputGrad& one) { return conv2d_input_grad_workspace(on, one); });
}
Status grouped_conv2d_input_grad(Cpu on, const GroupedConv2dInputGrad& a) {
  return for_each_part(a, [&](const Conv2dInputGrad& one) { return conv2d_input_grad(on, one); });
}

size_t grouped_conv2d_weight_grad_workspace(Cpu on, const GroupedConv2dWeightGrad& a) {
  return largest(
      a, [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad_workspace(on, one); });
}
Status grouped_conv2d_weight_grad(Cpu on, const GroupedConv2dWeightGrad& a) {
  return for_each_part(a, [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad(on, one); });
}

}  // namespace moat::kernels
