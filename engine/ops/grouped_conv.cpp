// The grouped convolutions of moe.h.

#include "engine/dispatch.h"
#include "engine/ops/conv_shapes.h"
#include "engine/ops/moe.h"
#include "engine/tape.h"
#include "kernels/experts/grouped_conv2d.h"

namespace moat::engine {

namespace {

using kernels::Conv2dGeometry;
using kernels::FilterForm;
using kernels::FilterUse;

void require_segments(const char* op, const Tensor& x, const Segments& segments,
                      const Tensor& gate) {
  const Tensor& offsets = segments.offsets;
  common_device({x, offsets, gate});
  require(offsets.defined() && offsets.dtype() == Dtype::i32 && offsets.rank() == 1 &&
              offsets.size() >= 2 && offsets.is_contiguous(),
          [&] { return text(op, ": the segments must come from sort_by_expert"); });
  // On a GPU the kernel pulls them in.
  const int64_t end =
      x.device().is_cpu() ? offsets.data_as<int32_t>()[segments.experts()] : x.dim(0);
  require(end == x.dim(0), [&] {
    return text(op, ": the segments must cover the batch of ", x.dim(0), ", they end at ", end);
  });
  const Dtype gate_dtype = master_of(x.dtype());
  require(!gate.defined() || (gate.shape() == Shape{x.dim(0)} && gate.dtype() == gate_dtype), [&] {
    return text(op, ": gate must be ", name_of(gate_dtype), " [", x.dim(0), "], got ",
                name_of(gate.dtype()), " ", gate.shape().str());
  });
}

Tensor convolved(const Tensor& x, const Tensor& filters, FilterForm form, const Tensor& bias,
                 const Tensor& residual, const Segments& segments, const Conv2dGeometry& g,
                 Activation activation) {
  const Tensor input = x.contiguous(), added = residual.contiguous();
  const Tensor y = Tensor::empty(conv_output_shape(x.dim(0), g), g.dtype, x.device());
  const kernels::GroupedConv2d args{.x = input.data(),
                                    .filters = filters.data(),
                                    .bias = bias.data(),
                                    .residual = added.data(),
                                    .y = y.data(),
                                    .offsets = segments.offsets.data_as<int32_t>(),
                                    .n = to_int(x.dim(0)),
                                    .experts = segments.experts(),
                                    .geometry = g,
                                    .form = form,
                                    .activation = conv_activation(activation)};
  dispatch(
      common_device({x, filters, bias, residual, segments.offsets}),
      [&](auto on) { return kernels::grouped_conv2d_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d(on, args); });
  return y;
}

Tensor input_grad(const Tensor& d_y, const Tensor& filters, FilterForm form,
                  const Segments& segments, const Conv2dGeometry& g, const Finish& finish) {
  const Tensor d = d_y.contiguous(), added = finish.added.contiguous();
  const Tensor d_x = Tensor::empty({d.dim(0), g.height, g.width, g.c_in}, g.dtype, d.device());
  const kernels::GroupedConv2dInputGrad args{.d_y = d.data(),
                                             .filters = filters.data(),
                                             .added = added.data(),
                                             .mask = finish.mask.data(),
                                             .d_x = d_x.data(),
                                             .offsets = segments.offsets.data_as<int32_t>(),
                                             .n = to_int(d.dim(0)),
                                             .experts = segments.experts(),
                                             .geometry = g,
                                             .form = form};
  dispatch(
      d.device(), [&](auto on) { return kernels::grouped_conv2d_input_grad_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d_input_grad(on, args); });
  return d_x;
}

Tensor weight_grad(const Tensor& x, const Tensor& d_y, const Segments& segments,
                   const Conv2dGeometry& g) {
  const Tensor d = d_y.contiguous();
  const Tensor d_filters = Tensor::empty({int64_t{segments.experts()} * g.c_out, g.r, g.s, g.c_in},
                                         g.filter_dtype(), d.device());
  const kernels::GroupedConv2dWeightGrad args{.x = x.data(),
                                              .d_y = d.data(),
                                              .d_filters = d_filters.data(),
                                              .offsets = segments.offsets.data_as<int32_t>(),
                                              .n = to_int(x.dim(0)),
                                              .experts = segments.experts(),
                                              .geometry = g};
  dispatch(
      d.device(), [&](auto on) { return kernels::grouped_conv2d_weight_grad_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d_weight_grad(on, args); });
  return d_filters;
}

}  // namespace

Tensor grouped_conv2d(const Tensor& x, const Tensor& filter, const Segments& segments,
                      const Tensor& gate, const Conv2dOptions& options) {
  require_segments("grouped_conv2d", x, segments, gate);
  const Conv2dGeometry g = conv_geometry("grouped_conv2d", x, filter, options, segments.experts());
  const Tensor input = x.contiguous(), bank = filter.contiguous();
  const Tensor y = convolved(input, bank, FilterForm::krsc, {}, {}, segments, g, Activation::none);
  const Tensor saved_x = is_differentiated(filter) ? input : Tensor{},
               saved_y = is_differentiated(gate) ? y : Tensor{},
               saved_bank = is_differentiated(x) ? bank : Tensor{};
  return recorded_finishing(
      "grouped_conv2d", {x, filter, gate}, y,
      [=](const Tensors& d, const Needs& needs, const Finish& finish) -> Tensors {
        Tensors out(3);
        if (needs[0]) out[0] = input_grad(d[0], saved_bank, FilterForm::krsc, segments, g, finish);
        if (needs[1]) out[1] = weight_grad(saved_x, d[0], segments, g);
        if (needs[2]) out[2] = conv_gate_grad(d[0], saved_y, {}, {}, {});
        return out;
      });
}

Tensor grouped_conv2d_packed(const Tensor& x, const PackedConv2d& packed, const Segments& segments,
                             const Tensor& gate, const Tensor& residual, Activation activation) {
  const char* op = "grouped_conv2d_packed";
  require_segments(op, x, segments, gate);
  require(segments.experts() == packed.experts, [&] {
    return text(op, ": ", segments.experts(), " segments need as many packed filters, got ",
                packed.experts);
  });
  const Conv2dGeometry g = packed_geometry(op, x, packed);
  require_residual(op, residual, conv_output_shape(x.dim(0), g), g.dtype);
  const FilterForm form = packed_form(packed);
  const Tensor y = convolved(x, packed_filter(packed, FilterUse::forward), form, packed.bias,
                             residual, segments, g, activation);
  const bool wants_gate = is_differentiated(gate);
  const Tensor saved_y = wants_gate ? y : Tensor{},
               saved_residual = wants_gate ? residual : Tensor{},
               saved_filter =
                   is_differentiated(x) ? packed_filter(packed, FilterUse::input_grad) : Tensor{};
  return recorded_finishing(
      op, {x, gate, residual}, y,
      [=, bias = packed.bias](const Tensors& d, const Needs& needs,
                              const Finish& finish) -> Tensors {
        return {needs[0] ? input_grad(d[0], saved_filter, form, segments, g, finish) : Tensor{},
                needs[1] ? conv_gate_grad(d[0], saved_y, saved_residual, bias, segments.offsets)
                         : Tensor{},
                needs[2] ? d[0] : Tensor{}};
      },
      source_of(activation));
}

}  // namespace moat::engine
