#pragma once

// oneDNN's convolution primitives and packed filters of one geometry: the inside of
// conv2d_library.cpp.

#include <array>
#include <memory>

#include "kernels/library/onednn.h"
#include "kernels/vision/conv2d.h"

namespace moat::kernels {

// Images run in chunks of powers of two, so that a geometry has few primitives however the batch
// varies (segments of experts do).
inline constexpr int kLargestChunk = 256;
inline constexpr int kChunks = 9;  // 1, 2, …, 256

// All that oneDNN needs for one geometry. The packed layouts are chosen once, for a batch of
// kCanonicalBatch images; every primitive, whatever its batch, is made for exactly those layouts.
class ConvPlan {
 public:
  static ConvPlan& of(Cpu on, const Conv2dGeometry& geometry);
  ConvPlan(Context::Primitives& primitives, const Conv2dGeometry& geometry);

  size_t packed_bytes(FilterUse use) const { return packed_desc(use).get_size(); }
  Planned& pack(FilterUse use);                          // KRSC filter, packed
  Planned& forward(int images, const Conv2d& epilogue);  // x, packed, y[, bias][, residual]
  Planned& input_grad(int images);                       // d_y, packed, d_x
  Planned& weight_grad(int images);                      // x, d_y, laid-out d_filter
  Planned& unpack_grad();                                // laid-out d_filter, KRSC d_filter
  size_t laid_out_grad_bytes() const { return grad_desc_.get_size(); }
  const dnnl::stream& stream() const { return primitives_.stream; }

 private:
  using Desc = dnnl::memory::desc;
  using Slot = std::unique_ptr<Planned>;
  enum Epilogue { kBias = 1, kResidual = 2, kRelu = 4, kEpilogues = 8 };

  const Desc& packed_desc(FilterUse use) const {
    return use == FilterUse::forward ? forward_desc_ : input_grad_desc_;
  }
  Desc x_desc(int images) const;
  Desc y_desc(int images) const;
  Desc filter_any(dnnl::memory::data_type type) const;
  Desc krsc_desc() const;
  dnnl::convolution_forward::primitive_desc forward_primitive(int images, const Desc& filter,
                                                              int epilogue) const;
  dnnl::convolution_backward_data::primitive_desc input_grad_primitive(int images,
                                                                       const Desc& filter) const;
  dnnl::convolution_backward_weights::primitive_desc weight_grad_primitive(
      int images, const Desc& d_filter) const;
  Slot reorder(const Desc& from, const Desc& to) const;

  Context::Primitives& primitives_;
  Conv2dGeometry geometry_;
  dnnl::memory::dims stride_, padding_;
  Desc forward_desc_, input_grad_desc_, grad_desc_;
  std::array<std::array<Slot, kChunks>, kEpilogues> forward_;
  std::array<Slot, kChunks> input_grad_, weight_grad_;
  std::array<Slot, 2> pack_;
  Slot unpack_grad_;
};

}  // namespace moat::kernels
