#include "engine/ops/conv_shapes.h"

#include "engine/dispatch.h"
#include "kernels/vision/conv_gate_grad.h"

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
  const Dtype master = master_of(x.dtype());
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

Tensor conv_gate_grad(const Tensor& d_pre, const Tensor& y, const Tensor& residual,
                      const Tensor& bias, const Tensor& offsets) {
  const Tensor d = d_pre.contiguous(), added = residual.contiguous();
  const Tensor d_gate = Tensor::empty({y.dim(0)}, master_of(y.dtype()), y.device());
  dispatch(y.device(), [&](auto on) {
    return kernels::conv_gate_grad(
        on, {.d_pre = d.data(),
             .y = y.data(),
             .residual = added.data(),
             .bias = bias.data(),
             .d_gate = d_gate.data(),
             .offsets = offsets.defined() ? offsets.data_as<int32_t>() : nullptr,
             .n = to_int(y.dim(0)),
             .segments = offsets.defined() ? to_int(offsets.size()) - 1 : 0,
             .pixels = to_int(y.dim(1) * y.dim(2)),
             .channels = to_int(y.dim(3)),
             .dtype = y.dtype()});
  });
  return d_gate;
}

}  // namespace moat::engine
