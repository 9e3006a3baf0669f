// The grouped convolutions of moe.h.

#include "engine/dispatch.h"
#include "engine/ops/conv_shapes.h"
#include "engine/ops/moe.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "kernels/experts/grouped_conv2d.h"

namespace moat::engine {

namespace {

using kernels::Conv2dGeometry;
using kernels::FilterForm;
using kernels::FilterUse;

// The filters of all experts: one KRSC bank, or one tensor each.
struct Filters {
  Tensor bank;
  Tensors experts;
  FilterForm form = FilterForm::krsc;
};

std::vector<const void*> addresses(const Tensors& tensors) {
  std::vector<const void*> out;
  for (const Tensor& t : tensors) out.push_back(t.data());
  return out;
}

void require_segments(const char* op, const Tensor& x, const Segments& segments,
                      const Tensor& gate) {
  require(!segments.offsets.empty() && segments.offsets.back() == x.dim(0), [&] {
    return text(op, ": the segments must cover the batch of ", x.dim(0), ", they end at ",
                segments.offsets.empty() ? 0 : segments.offsets.back());
  });
  const Dtype gate_dtype = x.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32;
  require(!gate.defined() || (gate.shape() == Shape{x.dim(0)} && gate.dtype() == gate_dtype), [&] {
    return text(op, ": gate must be ", name_of(gate_dtype), " [", x.dim(0), "], got ",
                name_of(gate.dtype()), " ", gate.shape().str());
  });
}

int experts_of(const std::vector<int>& offsets) {
  return to_int(static_cast<int64_t>(offsets.size())) - 1;
}

Tensor convolved(const Tensor& x, const Filters& filters, const Tensors& biases,
                 const Tensor& residual, const std::vector<int>& offsets, const Conv2dGeometry& g,
                 Activation activation) {
  const Tensor input = x.contiguous(), added = contiguous_or_undefined(residual);
  const Tensor y = Tensor::empty(conv_output_shape(x.dim(0), g), g.dtype, x.device());
  const auto experts = addresses(filters.experts), bias_data = addresses(biases);
  const kernels::GroupedConv2d args{.x = input.data(),
                                    .filters = filters.bank.data(),
                                    .expert_filters = experts.data(),
                                    .biases = biases.empty() ? nullptr : bias_data.data(),
                                    .residual = added.data(),
                                    .y = y.data(),
                                    .offsets = offsets.data(),
                                    .experts = experts_of(offsets),
                                    .geometry = g,
                                    .form = filters.form,
                                    .activation = conv_activation(activation)};
  dispatch(
      x.device(), [&](auto on) { return kernels::grouped_conv2d_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d(on, args); });
  return y;
}

Tensor input_grad(const Tensor& d_y, const Filters& filters, const std::vector<int>& offsets,
                  const Conv2dGeometry& g) {
  const Tensor d = d_y.contiguous();
  const Tensor d_x = Tensor::empty({d.dim(0), g.height, g.width, g.c_in}, g.dtype, d.device());
  const auto experts = addresses(filters.experts);
  const kernels::GroupedConv2dInputGrad args{.d_y = d.data(),
                                             .filters = filters.bank.data(),
                                             .expert_filters = experts.data(),
                                             .d_x = d_x.data(),
                                             .offsets = offsets.data(),
                                             .experts = experts_of(offsets),
                                             .geometry = g,
                                             .form = filters.form};
  dispatch(
      d.device(), [&](auto on) { return kernels::grouped_conv2d_input_grad_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d_input_grad(on, args); });
  return d_x;
}

Tensor weight_grad(const Tensor& x, const Tensor& d_y, const std::vector<int>& offsets,
                   const Conv2dGeometry& g) {
  const Tensor d = d_y.contiguous();
  const Tensor d_filters = Tensor::empty({int64_t{experts_of(offsets)} * g.c_out, g.r, g.s, g.c_in},
                                         g.filter_dtype(), d.device());
  const kernels::GroupedConv2dWeightGrad args{.x = x.data(),
                                              .d_y = d.data(),
                                              .d_filters = d_filters.data(),
                                              .offsets = offsets.data(),
                                              .experts = experts_of(offsets),
                                              .geometry = g};
  dispatch(
      d.device(), [&](auto on) { return kernels::grouped_conv2d_weight_grad_workspace(on, args); },
      [&](auto on) { return kernels::grouped_conv2d_weight_grad(on, args); });
  return d_filters;
}

}  // namespace

Tensor grouped_conv2d(const Tensor& x, const Tensor& filter, const Segments& segments,
                      const Tensor& gate, const Conv2dOptions& options) {
  const std::vector<int> offsets = segments.offsets;
  const Conv2dGeometry g = conv_geometry("grouped_conv2d", x, filter, options, experts_of(offsets));
  require_segments("grouped_conv2d", x, segments, gate);
  const Tensor input = x.contiguous();
  const Filters filters{.bank = filter.contiguous(), .experts = {}};
  const Tensor y = convolved(input, filters, {}, {}, offsets, g, Activation::none);
  const Tensor saved_x = is_differentiated(filter) ? input : Tensor{},
               saved_y = is_differentiated(gate) ? y : Tensor{};
  const Filters saved_filters = is_differentiated(x) ? filters : Filters{.bank = {}, .experts = {}};
  return recorded(
      "grouped_conv2d", {x, filter, gate}, y,
      [saved_x, saved_y, saved_filters, offsets, g](const Tensors& d,
                                                    const Needs& needs) -> Tensors {
        Tensors out(3);
        if (needs[0]) out[0] = input_grad(d[0], saved_filters, offsets, g);
        if (needs[1]) out[1] = weight_grad(saved_x, d[0], offsets, g);
        if (needs[2])
          out[2] =
              epilogue_grad(d[0], saved_y, {}, {}, {}, Activation::none, GateGrad::wanted).d_gate;
        return out;
      });
}

Tensor grouped_conv2d_packed(const Tensor& x, const std::vector<PackedConv2d>& packed,
                             const Segments& segments, const Tensor& gate, const Tensor& residual,
                             Activation activation) {
  const std::vector<int> offsets = segments.offsets;
  require(!packed.empty() && experts_of(offsets) == static_cast<int>(packed.size()), [&] {
    return text("grouped_conv2d_packed: ", experts_of(offsets),
                " segments need as many packed filters, got ", packed.size());
  });
  const Conv2dGeometry g = packed_geometry("grouped_conv2d_packed", x, packed[0]);
  require_segments("grouped_conv2d_packed", x, segments, gate);
  require_residual("grouped_conv2d_packed", residual, conv_output_shape(x.dim(0), g), g.dtype);
  for (const PackedConv2d& expert : packed)
    require(packed_geometry("grouped_conv2d_packed", x, expert) == g,
            "grouped_conv2d_packed: all experts must be packed for the same shapes");
  const auto filters_for = [&](FilterUse use) {
    Filters filters{.bank = {}, .experts = {}, .form = packed_form(packed[0])};
    for (const PackedConv2d& expert : packed) filters.experts.push_back(packed_filter(expert, use));
    return filters;
  };
  Tensors biases;
  for (const PackedConv2d& expert : packed) biases.push_back(expert.bias);
  const Tensor y =
      convolved(x, filters_for(FilterUse::forward), biases, residual, offsets, g, activation);
  const bool wants_gate = is_differentiated(gate);
  const Tensor bias = wants_gate ? concat(biases, 0) : Tensor{},
               bias_offsets = wants_gate ? Tensor::from(offsets, {int64_t{experts_of(offsets)} + 1})
                                         : Tensor{};
  const bool any = wants_gate || is_differentiated(x) || is_differentiated(residual);
  const Tensor saved_y = wants_gate || (any && activation == Activation::relu) ? y : Tensor{},
               saved_residual = wants_gate ? residual : Tensor{};
  const Filters saved_filters = is_differentiated(x) ? filters_for(FilterUse::input_grad)
                                                     : Filters{.bank = {}, .experts = {}};
  return recorded("grouped_conv2d_packed", {x, gate, residual}, y,
                  [=](const Tensors& d, const Needs& needs) -> Tensors {
                    const EpilogueGrad grad =
                        epilogue_grad(d[0], saved_y, saved_residual, bias, bias_offsets, activation,
                                      needs[1] ? GateGrad::wanted : GateGrad::skipped);
                    return {needs[0] ? input_grad(grad.d_pre, saved_filters, offsets, g) : Tensor{},
                            grad.d_gate, needs[2] ? grad.d_pre : Tensor{}};
                  });
}

}  // namespace moat::engine
