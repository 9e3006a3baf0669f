#include "kernels/grouped_conv2d.h"

#include <algorithm>

namespace moat::kernels {

namespace {

// Experts run one after another, each on all threads: conv2d on its images and its filters.

bool are_segments(const int* offsets, int experts) {
  return experts >= 0 && offsets && offsets[0] == 0 &&
         std::is_sorted(offsets, offsets + experts + 1);
}

const char* at(const void* base, int64_t elements, Dtype dtype) {
  return static_cast<const char*>(base) + elements * static_cast<int64_t>(size_of(dtype));
}
char* at(void* base, int64_t elements, Dtype dtype) {
  return static_cast<char*>(base) + elements * static_cast<int64_t>(size_of(dtype));
}

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

// The most that any segment wants: they use the same workspace in turn.
template <class Grouped, class Size>
size_t largest(const Grouped& a, Size&& size) {
  if (!are_segments(a.offsets, a.experts)) return 0;
  size_t most = 0;
  for (int e = 0; e < a.experts; ++e) most = std::max(most, size(part(a, e)));
  return most;
}

template <class Grouped, class Kernel>
Status for_each_expert(const Grouped& a, Kernel&& kernel) {
  if (!are_segments(a.offsets, a.experts)) return Status::bad_args;
  for (int e = 0; e < a.experts; ++e)
    if (const Status status = kernel(part(a, e)); status != Status::ok) return status;
  return Status::ok;
}

}  // namespace

size_t grouped_conv2d_workspace(Cpu on, const GroupedConv2d& a) {
  return largest(a, [&](const Conv2d& one) { return conv2d_workspace(on, one); });
}
Status grouped_conv2d(Cpu on, const GroupedConv2d& a) {
  return for_each_expert(a, [&](const Conv2d& one) { return conv2d(on, one); });
}

size_t grouped_conv2d_input_grad_workspace(Cpu on, const GroupedConv2dInputGrad& a) {
  return largest(a,
                 [&](const Conv2dInputGrad& one) { return conv2d_input_grad_workspace(on, one); });
}
Status grouped_conv2d_input_grad(Cpu on, const GroupedConv2dInputGrad& a) {
  return for_each_expert(a, [&](const Conv2dInputGrad& one) { return conv2d_input_grad(on, one); });
}

size_t grouped_conv2d_weight_grad_workspace(Cpu on, const GroupedConv2dWeightGrad& a) {
  return largest(
      a, [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad_workspace(on, one); });
}
Status grouped_conv2d_weight_grad(Cpu on, const GroupedConv2dWeightGrad& a) {
  return for_each_expert(a,
                         [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad(on, one); });
}

}  // namespace moat::kernels
