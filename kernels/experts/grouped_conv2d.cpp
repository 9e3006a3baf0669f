#include "kernels/experts/grouped_conv2d.h"

#include "kernels/segments.h"

namespace moat::kernels {

namespace {

// The first image of expert e, or with e = experts the one behind the last.
template <class Grouped>
int first_image(const Grouped& a, int e) {
  if (!a.offsets) return e == 0 ? 0 : a.n;
  return a.offsets[e];
}

template <class Grouped>
const void* filter_of(Cpu on, const Grouped& a, FilterUse use, int e) {
  const Conv2dGeometry& g = a.geometry;
  if (a.form == FilterForm::krsc) return at(a.filters, e * g.filter_size(), g.filter_dtype());
  const size_t stride = packed_stride(conv2d_packed_bytes(on, g, use));
  return at(a.filters, e * static_cast<int64_t>(stride), Dtype::u8);
}

Conv2d part(Cpu on, const GroupedConv2d& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int first = first_image(a, e);
  return {.x = at(a.x, first * g.x_size(), g.dtype),
          .filter = filter_of(on, a, FilterUse::forward, e),
          .bias = a.bias ? at(a.bias, int64_t{e} * g.c_out, g.filter_dtype()) : nullptr,
          .residual = a.residual ? at(a.residual, first * g.y_size(), g.dtype) : nullptr,
          .y = at(a.y, first * g.y_size(), g.dtype),
          .n = first_image(a, e + 1) - first,
          .geometry = g,
          .form = a.form,
          .activation = a.activation};
}

Conv2dInputGrad part(Cpu on, const GroupedConv2dInputGrad& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int first = first_image(a, e);
  return {.d_y = at(a.d_y, first * g.y_size(), g.dtype),
          .filter = filter_of(on, a, FilterUse::input_grad, e),
          .added = a.added ? at(a.added, first * g.x_size(), g.dtype) : nullptr,
          .mask = a.mask ? at(a.mask, first * g.x_size(), g.dtype) : nullptr,
          .d_x = at(a.d_x, first * g.x_size(), g.dtype),
          .n = first_image(a, e + 1) - first,
          .geometry = g,
          .form = a.form};
}

Conv2dWeightGrad part(Cpu, const GroupedConv2dWeightGrad& a, int e) {
  const Conv2dGeometry& g = a.geometry;
  const int first = first_image(a, e);
  return {.x = at(a.x, first * g.x_size(), g.dtype),
          .d_y = at(a.d_y, first * g.y_size(), g.dtype),
          .d_filter = at(a.d_filters, e * g.filter_size(), g.filter_dtype()),
          .n = first_image(a, e + 1) - first,
          .geometry = g};
}

template <class Grouped>
bool covers(const Grouped& a) {
  if (!a.offsets) return a.experts == 1;
  return are_segments(a.offsets, a.experts) && a.offsets[a.experts] == a.n;
}

template <class Grouped, class Size>
size_t largest(Cpu on, const Grouped& a, Size&& size) {
  if (!covers(a)) return 0;
  return largest_of_experts(a.experts, [&](int e) { return size(part(on, a, e)); });
}

template <class Grouped, class Kernel>
Status for_each_part(Cpu on, const Grouped& a, Kernel&& kernel) {
  if (!covers(a)) return Status::bad_args;
  return for_each_expert(a.experts, [&](int e) { return kernel(part(on, a, e)); });
}

}  // namespace

size_t grouped_conv2d_workspace(Cpu on, const GroupedConv2d& a) {
  return largest(on, a, [&](const Conv2d& one) { return conv2d_workspace(on, one); });
}
Status grouped_conv2d(Cpu on, const GroupedConv2d& a) {
  return for_each_part(on, a, [&](const Conv2d& one) { return conv2d(on, one); });
}

size_t grouped_conv2d_input_grad_workspace(Cpu on, const GroupedConv2dInputGrad& a) {
  return largest(on, a,
                 [&](const Conv2dInputGrad& one) { return conv2d_input_grad_workspace(on, one); });
}
Status grouped_conv2d_input_grad(Cpu on, const GroupedConv2dInputGrad& a) {
  return for_each_part(on, a,
                       [&](const Conv2dInputGrad& one) { return conv2d_input_grad(on, one); });
}

size_t grouped_conv2d_weight_grad_workspace(Cpu on, const GroupedConv2dWeightGrad& a) {
  return largest(
      on, a, [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad_workspace(on, one); });
}
Status grouped_conv2d_weight_grad(Cpu on, const GroupedConv2dWeightGrad& a) {
  return for_each_part(on, a,
                       [&](const Conv2dWeightGrad& one) { return conv2d_weight_grad(on, one); });
}

}  // namespace moat::kernels
