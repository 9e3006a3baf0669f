#include "engine/ops/conv_shapes.h"

#include "engine/dispatch.h"
#include "kernels/vision/conv_epilogue_grad.h"

namespace moat::engine {

using kernels::Conv2dGeometry;
using kernels::FilterForm;
using kernels::FilterUse;

Conv2dGeometry conv_geometry(const char* op, const Tensor& x, const Tensor& filter,
                             const Conv2dOptions& options, int experts) {
  require(x.rank() == 4 && filter.rank() == 4 && x.dim(3) == filter.dim(3), [&] {
    return text(op, ": x must be [n, h, w, c_in] and filter [c_out, r, s, c_in], got ",
                x.shape().str(), " and ", filter.shape().str());
  });
  const Dtype master = x.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32;
  require(is_floating(x.dtype()) && filter.dtype() == master, [&] {
    return text(op, ": a ", name_of(x.dtype()), " x needs a ", name_of(master), " filter, got ",
                name_of(filter.dtype()));
  });
  require(options.stride >= 1 && options.padding >= 0, [&] {
    return text(op, ": stride must be at least 1 and padding at least 0, got ", options.stride,
                " and ", options.padding);
  });
  require(experts >= 1 && filter.dim(0) % experts == 0, [&] {
    return text(op, ": the bank's ", filter.dim(0), " filters must divide among ", experts,
                " experts");
  });
  const Conv2dGeometry g{.height = to_int(x.dim(1)),
                         .width = to_int(x.dim(2)),
                         .c_in = to_int(x.dim(3)),
                         .c_out = to_int(filter.dim(0) / experts),
                         .r = to_int(filter.dim(1)),
                         .s = to_int(filter.dim(2)),
                         .stride = options.stride,
                         .padding = options.padding,
                         .dtype = x.dtype()};
  require(g.c_in > 0 && g.c_out > 0 && g.r > 0 && g.s > 0 && g.height > 0 && g.width > 0 &&
              g.height + 2 * g.padding >= g.r && g.width + 2 * g.padding >= g.s,
          [&] {
            return text(op, ": the padded image must hold the filter, got ", x.shape().str(),
                        " with padding ", g.padding, " and filter ", filter.shape().str());
          });
  return g;
}

Conv2dGeometry packed_geometry(const char* op, const Tensor& x, const PackedConv2d& packed) {
  require(packed.filter.defined(), [&] { return text(op, ": the filter must be packed first"); });
  const Conv2dGeometry g = conv_geometry(op, x, packed.filter, packed.options, packed.experts);
  require(g.height == packed.height && g.width == packed.width && g.dtype == packed.dtype, [&] {
    return text(op, ": packed for ", packed.height, "x", packed.width, " ", name_of(packed.dtype),
                " images, got ", x.shape().str(), " ", name_of(x.dtype()));
  });
  return g;
}

Shape conv_output_shape(int64_t n, const Conv2dGeometry& g) {
  return {n, g.out_height(), g.out_width(), g.c_out};
}

void require_residual(const char* op, const Tensor& residual, const Shape& shape, Dtype dtype) {
  require(!residual.defined() || (residual.shape() == shape && residual.dtype() == dtype), [&] {
    return text(op, ": residual must be ", name_of(dtype), " ", shape.str(), ", got ",
                name_of(residual.dtype()), " ", residual.shape().str());
  });
}

FilterForm packed_form(const PackedConv2d& packed) {
  return packed.dtype == Dtype::f64 ? FilterForm::krsc : FilterForm::packed;
}

const Tensor& packed_filter(const PackedConv2d& packed, FilterUse use) {
  if (packed_form(packed) == FilterForm::krsc) return packed.filter;
  return use == FilterUse::forward ? packed.forward : packed.input_grad;
}

kernels::ConvActivation conv_activation(Activation activation) {
  return activation == Activation::relu ? kernels::ConvActivation::relu
                                        : kernels::ConvActivation::none;
}

Tensor contiguous_or_undefined(const Tensor& x) { return x.defined() ? x.contiguous() : x; }

EpilogueGrad epilogue_grad(const Tensor& d_y, const Tensor& y, const Tensor& residual,
                           const Tensor& bias, const Tensor& offsets, Activation activation,
                           GateGrad gate) {
  if (activation == Activation::none && gate == GateGrad::skipped) return {d_y, {}};
  const Tensor d = d_y.contiguous(), added = contiguous_or_undefined(residual);
  EpilogueGrad out{d, {}};
  if (activation == Activation::relu) out.d_pre = Tensor::empty(y.shape(), y.dtype(), y.device());
  if (gate == GateGrad::wanted)
    out.d_gate =
        Tensor::empty({y.dim(0)}, y.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32, y.device());
  const int segments = offsets.defined() ? to_int(offsets.size()) - 1 : 0;
  dispatch(y.device(), [&](auto on) {
    return kernels::conv_epilogue_grad(
        on, {.d_y = d.data(),
             .y = y.data(),
             .residual = added.data(),
             .bias = bias.data(),
             .d_pre = activation == Activation::relu ? out.d_pre.data() : nullptr,
             .d_gate = out.d_gate.data(),
             .offsets = offsets.defined() ? offsets.data_as<int32_t>() : nullptr,
             .n = to_int(y.dim(0)),
             .segments = segments,
             .pixels = to_int(y.dim(1) * y.dim(2)),
             .channels = to_int(y.dim(3)),
             .activation = conv_activation(activation),
             .dtype = y.dtype()});
  });
  return out;
}

}  // namespace moat::engine
