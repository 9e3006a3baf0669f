#include "kernels/vision/conv2d_plan.h"

#include <bit>
#include <string>
#include <string_view>

namespace moat::kernels {

namespace {

using dnnl::memory;
using Tag = memory::format_tag;

constexpr int kCanonicalBatch = 64;

// The implementations of oneDNN 2.6 that are passed over, for the next one that it has:
// - brgconv, on AVX-512: the order of its sums depends on the batch, and a residual sends it to the
//   reference code, hundreds of times slower. The next one is 3 to 5 % faster on ResNets besides.
// - a strided 1x1 convolution by gathered pixels, in blocks of channels: where the input channels
//   do not fill the blocks it writes past its buffer and the weight gradient is wrong.
template <class Made>
Made passing_over_faulty(Made made, const Conv2dGeometry& g) {
  constexpr int kBlock = 16;
  const bool gathers_wrongly = g.r * g.s == 1 && g.stride > 1 && g.c_in % kBlock != 0;
  const auto is_called = [&](const char* name) {
    return std::string_view(made.impl_info_str()).find(name) != std::string_view::npos;
  };
  while ((is_called("brgconv") || (gathers_wrongly && is_called("1x1"))) && made.next_impl()) {
  }
  return made;
}

size_t chunk_index(int images) {
  return static_cast<size_t>(std::countr_zero(static_cast<unsigned>(images)));
}

}  // namespace

ConvPlan& ConvPlan::of(Cpu on, const Conv2dGeometry& g) {
  Context::Primitives& primitives = on.context->primitives();
  const PlanKey key{static_cast<int>(PlanKind::conv2d),
                    g.height,
                    g.width,
                    g.c_in,
                    g.c_out,
                    g.r,
                    g.s,
                    g.stride,
                    g.padding,
                    int(g.dtype)};
  return primitives.plan<ConvPlan>(key, [&] { return std::make_unique<ConvPlan>(primitives, g); });
}

ConvPlan::ConvPlan(Context::Primitives& primitives, const Conv2dGeometry& g)
    : primitives_(primitives),
      geometry_(g),
      stride_{g.stride, g.stride},
      padding_{g.padding, g.padding} {
  const auto stored = onednn_type(g.dtype), master = onednn_type(g.filter_dtype());
  forward_desc_ = forward_primitive(kCanonicalBatch, filter_any(stored), 0).weights_desc();
  input_grad_desc_ = input_grad_primitive(kCanonicalBatch, filter_any(stored)).weights_desc();
  grad_desc_ = weight_grad_primitive(kCanonicalBatch, filter_any(master)).diff_weights_desc();
}

memory::desc ConvPlan::x_desc(int images) const {
  return {{images, geometry_.c_in, geometry_.height, geometry_.width},
          onednn_type(geometry_.dtype),
          Tag::nhwc};
}

memory::desc ConvPlan::y_desc(int images) const {
  return {{images, geometry_.c_out, geometry_.out_height(), geometry_.out_width()},
          onednn_type(geometry_.dtype),
          Tag::nhwc};
}

memory::desc ConvPlan::filter_any(memory::data_type type) const {
  return {{geometry_.c_out, geometry_.c_in, geometry_.r, geometry_.s}, type, Tag::any};
}

memory::desc ConvPlan::krsc_desc() const {
  return {{geometry_.c_out, geometry_.c_in, geometry_.r, geometry_.s},
          onednn_type(geometry_.filter_dtype()),
          Tag::ohwi};
}

dnnl::convolution_forward::primitive_desc ConvPlan::forward_primitive(int images,
                                                                      const Desc& filter,
                                                                      int epilogue) const {
  const Desc bias =
      epilogue & kBias ? Desc({geometry_.c_out}, memory::data_type::f32, Tag::a) : Desc();
  dnnl::post_ops after;
  if (epilogue & kResidual) after.append_binary(dnnl::algorithm::binary_add, y_desc(images));
  if (epilogue & kRelu) after.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
  dnnl::primitive_attr attr = with_user_scratch();
  attr.set_post_ops(after);
  return passing_over_faulty<dnnl::convolution_forward::primitive_desc>(
      {{dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, x_desc(images),
        filter, bias, y_desc(images), stride_, padding_, padding_},
       attr,
       primitives_.engine},
      geometry_);
}

dnnl::convolution_backward_data::primitive_desc ConvPlan::input_grad_primitive(
    int images, const Desc& filter) const {
  return passing_over_faulty<dnnl::convolution_backward_data::primitive_desc>(
      {{dnnl::algorithm::convolution_direct, x_desc(images), filter, y_desc(images), stride_,
        padding_, padding_},
       with_user_scratch(),
       primitives_.engine,
       forward_primitive(images, filter_any(onednn_type(geometry_.dtype)), 0)},
      geometry_);
}

dnnl::convolution_backward_weights::primitive_desc ConvPlan::weight_grad_primitive(
    int images, const Desc& d_filter) const {
  return passing_over_faulty<dnnl::convolution_backward_weights::primitive_desc>(
      {{dnnl::algorithm::convolution_direct, x_desc(images), d_filter, y_desc(images), stride_,
        padding_, padding_},
       with_user_scratch(),
       primitives_.engine,
       forward_primitive(images, filter_any(onednn_type(geometry_.dtype)), 0)},
      geometry_);
}

ConvPlan::Slot ConvPlan::reorder(const Desc& from, const Desc& to) const {
  const dnnl::reorder::primitive_desc made(primitives_.engine, from, primitives_.engine, to,
                                           with_user_scratch());
  return std::make_unique<Planned>(
      primitives_.engine, dnnl::reorder(made),
      std::vector<Planned::Argument>{{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}},
      made.scratchpad_desc());
}

Planned& ConvPlan::pack(FilterUse use) {
  Slot& slot = pack_[static_cast<size_t>(use)];
  if (!slot) slot = reorder(krsc_desc(), packed_desc(use));
  return *slot;
}

Planned& ConvPlan::unpack_grad() {
  if (!unpack_grad_) unpack_grad_ = reorder(grad_desc_, krsc_desc());
  return *unpack_grad_;
}

Planned& ConvPlan::forward(int images, const Conv2d& a) {
  const int epilogue = (a.bias ? kBias : 0) | (a.residual ? kResidual : 0) |
                       (a.activation == ConvActivation::relu ? kRelu : 0);
  Slot& slot = forward_[static_cast<size_t>(epilogue)][chunk_index(images)];
  if (slot) return *slot;
  const auto made = forward_primitive(images, forward_desc_, epilogue);
  std::vector<Planned::Argument> arguments{{DNNL_ARG_SRC, x_desc(images)},
                                           {DNNL_ARG_WEIGHTS, forward_desc_},
                                           {DNNL_ARG_DST, y_desc(images)}};
  if (a.bias) arguments.push_back({DNNL_ARG_BIAS, made.bias_desc()});
  if (a.residual)
    arguments.push_back({DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, y_desc(images)});
  slot = std::make_unique<Planned>(primitives_.engine, dnnl::convolution_forward(made), arguments,
                                   made.scratchpad_desc());
  return *slot;
}

Planned& ConvPlan::input_grad(int images) {
  Slot& slot = input_grad_[chunk_index(images)];
  if (slot) return *slot;
  const auto made = input_grad_primitive(images, input_grad_desc_);
  slot =
      std::make_unique<Planned>(primitives_.engine, dnnl::convolution_backward_data(made),
                                std::vector<Planned::Argument>{{DNNL_ARG_DIFF_DST, y_desc(images)},
                                                               {DNNL_ARG_WEIGHTS, input_grad_desc_},
                                                               {DNNL_ARG_DIFF_SRC, x_desc(images)}},
                                made.scratchpad_desc());
  return *slot;
}

Planned& ConvPlan::weight_grad(int images) {
  Slot& slot = weight_grad_[chunk_index(images)];
  if (slot) return *slot;
  const auto made = weight_grad_primitive(images, grad_desc_);
  slot =
      std::make_unique<Planned>(primitives_.engine, dnnl::convolution_backward_weights(made),
                                std::vector<Planned::Argument>{{DNNL_ARG_SRC, x_desc(images)},
                                                               {DNNL_ARG_DIFF_DST, y_desc(images)},
                                                               {DNNL_ARG_DIFF_WEIGHTS, grad_desc_}},
                                made.scratchpad_desc());
  return *slot;
}

}  // namespace moat::kernels
