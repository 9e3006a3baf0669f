#include "engine/ops/vision.h"

#include "engine/dispatch.h"
#include "engine/ops/conv_shapes.h"
#include "engine/ops/finite.h"
#include "engine/tape.h"
#include "kernels/experts/grouped_conv2d.h"

namespace moat::engine {

using kernels::Conv2dGeometry;
using kernels::FilterForm;
using kernels::FilterUse;

namespace {

Tensor convolved(const Tensor& x, const Conv2dGeometry& g, const Tensor& filter, FilterForm form,
                 const Tensor& bias, const Tensor& residual, Activation activation) {
  const Tensor input = x.contiguous(), added = residual.contiguous();
  const Tensor y = Tensor::empty(conv_output_shape(x.dim(0), g), g.dtype, x.device());
  const kernels::Conv2d args{.x = input.data(),
                             .filter = filter.data(),
                             .bias = bias.data(),
                             .residual = added.data(),
                             .y = y.data(),
                             .n = to_int(x.dim(0)),
                             .geometry = g,
                             .form = form,
                             .activation = conv_activation(activation)};
  dispatch(
      common_device({x, filter, bias, residual}),
      [&](auto on) { return kernels::conv2d_workspace(on, args); },
      [&](auto on) { return kernels::conv2d(on, args); });
  return y;
}

Tensor input_grad(const Tensor& d_y, const Conv2dGeometry& g, const Tensor& filter, FilterForm form,
                  const Finish& finish) {
  const Tensor d = d_y.contiguous(), added = finish.added.contiguous();
  const Tensor d_x = Tensor::empty({d.dim(0), g.height, g.width, g.c_in}, g.dtype, d.device());
  const kernels::Conv2dInputGrad args{.d_y = d.data(),
                                      .filter = filter.data(),
                                      .added = added.data(),
                                      .mask = finish.mask.data(),
                                      .d_x = d_x.data(),
                                      .n = to_int(d.dim(0)),
                                      .geometry = g,
                                      .form = form};
  dispatch(
      d.device(), [&](auto on) { return kernels::conv2d_input_grad_workspace(on, args); },
      [&](auto on) { return kernels::conv2d_input_grad(on, args); });
  return d_x;
}

Tensor weight_grad(const Tensor& x, const Tensor& d_y, const Conv2dGeometry& g) {
  const Tensor d = d_y.contiguous();
  const Tensor d_filter = Tensor::empty({g.c_out, g.r, g.s, g.c_in}, g.filter_dtype(), d.device());
  const kernels::Conv2dWeightGrad args{.x = x.data(),
                                       .d_y = d.data(),
                                       .d_filter = d_filter.data(),
                                       .n = to_int(x.dim(0)),
                                       .geometry = g};
  dispatch(
      d.device(), [&](auto on) { return kernels::conv2d_weight_grad_workspace(on, args); },
      [&](auto on) { return kernels::conv2d_weight_grad(on, args); });
  return d_filter;
}

// Every expert's filter of a bank, one after another as grouped_conv2d reads them.
Tensor packed_for(FilterUse use, const Tensor& filter, const Conv2dGeometry& g, int experts) {
  const Device device = filter.device();
  size_t bytes = 0;
  dispatch(device, [&](auto on) {
    bytes = kernels::conv2d_packed_bytes(on, g, use);
    return kernels::Status::ok;
  });
  const auto stride = static_cast<int64_t>(kernels::packed_stride(bytes));
  const Tensor packed = Tensor::empty({experts, stride}, Dtype::u8, device);
  for (int64_t e = 0; e < experts; ++e) {
    const kernels::Conv2dPack args{
        .filter = filter.sliced(0, e * g.c_out, (e + 1) * g.c_out).data(),
        .packed = packed.sliced(0, e, e + 1).data(),
        .geometry = g,
        .use = use};
    dispatch(
        device, [&](auto on) { return kernels::conv2d_pack_workspace(on, args); },
        [&](auto on) { return kernels::conv2d_pack(on, args); });
  }
  return packed;
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& filter, const Conv2dOptions& options) {
  const Conv2dGeometry g = conv_geometry("conv2d", x, filter, options, 1);
  const Tensor input = x.contiguous(), weights = filter.contiguous();
  const Tensor y = convolved(input, g, weights, FilterForm::krsc, {}, {}, Activation::none);
  const Tensor saved_x = is_differentiated(filter) ? input : Tensor{},
               saved_filter = is_differentiated(x) ? weights : Tensor{};
  return recorded_finishing(
      "conv2d", {x, filter}, y,
      [=](const Tensors& d, const Needs& needs, const Finish& finish) -> Tensors {
        return {needs[0] ? input_grad(d[0], g, saved_filter, FilterForm::krsc, finish) : Tensor{},
                needs[1] ? weight_grad(saved_x, d[0], g) : Tensor{}};
      });
}

PackedConv2d pack_conv2d(const Tensor& filter, const Tensor& bias, const Conv2dOptions& options,
                         int height, int width, Dtype dtype, int experts) {
  require(filter.rank() == 4, [&] {
    return text("pack_conv2d: filter must be [c_out, r, s, c_in], got ", filter.shape().str());
  });
  const Tensor image = Tensor::empty({0, height, width, filter.dim(3)}, dtype, filter.device());
  const Conv2dGeometry g = conv_geometry("pack_conv2d", image, filter, options, experts);
  require(bias.shape() == Shape{filter.dim(0)} && bias.dtype() == filter.dtype(), [&] {
    return text("pack_conv2d: bias must be ", name_of(filter.dtype()), " [", filter.dim(0),
                "], got ", name_of(bias.dtype()), " ", bias.shape().str());
  });
  // The fused relu turns NaN into 0, so that a diverged model would look alive.
  if (filter.device().is_cpu() && (count_nonfinite(filter) > 0 || count_nonfinite(bias) > 0))
    throw NotFinite("pack_conv2d: filter and bias must be finite, the model holds NaN or infinity");
  const Tensor weights = filter.detached().contiguous();
  return {.filter = weights,
          .forward = packed_for(FilterUse::forward, weights, g, experts),
          .input_grad = packed_for(FilterUse::input_grad, weights, g, experts),
          .bias = bias.detached().contiguous(),
          .experts = experts,
          .options = options,
          .height = height,
          .width = width,
          .dtype = dtype};
}

Tensor conv2d_packed(const Tensor& x, const PackedConv2d& packed, const Tensor& residual,
                     Activation activation) {
  require(packed.experts == 1, [&] {
    return text("conv2d_packed: one filter, got those of ", packed.experts, " experts");
  });
  const Conv2dGeometry g = packed_geometry("conv2d_packed", x, packed);
  require_residual("conv2d_packed", residual, conv_output_shape(x.dim(0), g), g.dtype);
  const FilterForm form = packed_form(packed);
  const Tensor y = convolved(x, g, packed_filter(packed, FilterUse::forward), form, packed.bias,
                             residual, activation);
  const Tensor saved_filter = packed_filter(packed, FilterUse::input_grad);
  return recorded_finishing(
      "conv2d_packed", {x, residual}, y,
      [=](const Tensors& d, const Needs& needs, const Finish& finish) -> Tensors {
        return {needs[0] ? input_grad(d[0], g, saved_filter, form, finish) : Tensor{},
                needs[1] ? d[0] : Tensor{}};
      },
      source_of(activation));
}

}  // namespace moat::engine
