#pragma once

// The definitions of ConvData, for the CPU (cpu_kernels.cpp) and CUDA (cuda/main.cpp).

#include <algorithm>

#include "bench/conv_data.h"
#include "engine/error.h"

namespace moat::bench {

template <class On>
ConvData<On>::ConvData(Workbench& bench, On on, const ConvShape& shape, kernels::Dtype dtype,
                       const NormalValues& normals)
    : blocks_(bench, normals), on_(on), shape_(shape), g_(shape.geometry) {
  g_.dtype = dtype;
  const auto x_size = static_cast<double>(shape.images * g_.x_size()),
             y_size = static_cast<double>(shape.images * g_.y_size()),
             filters = static_cast<double>(shape.experts * g_.filter_size());
  const kernels::Dtype master = g_.filter_dtype();
  x_ = blocks_.normal_block(x_size, dtype);
  added_ = blocks_.normal_block(x_size, dtype);
  d_x_ = blocks_.block(x_size, dtype);
  d_y_ = blocks_.normal_block(y_size, dtype);
  residual_ = blocks_.normal_block(y_size, dtype);
  y_ = blocks_.block(y_size, dtype);
  filters_ = blocks_.normal_block(filters, master);
  d_filters_ = blocks_.block(filters, master);
  bias_ = blocks_.normal_block(double(shape.experts) * g_.c_out, master);
  packed_forward_ = packed(kernels::FilterUse::forward);
  packed_input_grad_ = packed(kernels::FilterUse::input_grad);
  if (shape.experts == 1) return;
  std::vector<int32_t> offsets;
  for (int e = 0; e <= shape.experts; ++e) offsets.push_back(shape.images * e / shape.experts);
  offsets_ = static_cast<int32_t*>(
      blocks_.block(static_cast<double>(offsets.size()), kernels::Dtype::i32));
  blocks_.upload(offsets_, offsets.data(), offsets.size() * sizeof(int32_t));
}

template <class On>
void* ConvData<On>::packed(kernels::FilterUse use) {
  const size_t stride = kernels::packed_stride(conv2d_packed_bytes(on_, g_, use));
  void* bank = blocks_.block(static_cast<double>(stride) * shape_.experts, kernels::Dtype::u8);
  for (int e = 0; e < shape_.experts; ++e) {
    const kernels::Conv2dPack args{
        .filter = static_cast<const float*>(filters_) + e * g_.filter_size(),
        .packed = static_cast<char*>(bank) + static_cast<size_t>(e) * stride,
        .geometry = g_,
        .use = use};
    engine::check(conv2d_pack(scratch(conv2d_pack_workspace(on_, args)), args));
  }
  return bank;
}

template <class On>
kernels::GroupedConv2d ConvData<On>::forward() const {
  return {.x = x_,
          .filters = packed_forward_,
          .bias = bias_,
          .residual = residual_,
          .y = y_,
          .offsets = offsets_,
          .n = shape_.images,
          .experts = shape_.experts,
          .geometry = g_,
          .form = kernels::FilterForm::packed,
          .activation = kernels::ConvActivation::relu};
}

template <class On>
kernels::GroupedConv2dInputGrad ConvData<On>::input_grad() const {
  return {.d_y = d_y_,
          .filters = packed_input_grad_,
          .added = added_,
          .mask = x_,
          .d_x = d_x_,
          .offsets = offsets_,
          .n = shape_.images,
          .experts = shape_.experts,
          .geometry = g_,
          .form = kernels::FilterForm::packed};
}

template <class On>
kernels::GroupedConv2dWeightGrad ConvData<On>::weight_grad() const {
  return {.x = x_,
          .d_y = d_y_,
          .d_filters = d_filters_,
          .offsets = offsets_,
          .n = shape_.images,
          .experts = shape_.experts,
          .geometry = g_};
}

// One expert's part of the arguments is all of them.
inline kernels::Conv2d single(const kernels::GroupedConv2d& a) {
  return {.x = a.x,
          .filter = a.filters,
          .bias = a.bias,
          .residual = a.residual,
          .y = a.y,
          .n = a.n,
          .geometry = a.geometry,
          .form = a.form,
          .activation = a.activation};
}
inline kernels::Conv2dInputGrad single(const kernels::GroupedConv2dInputGrad& a) {
  return {.d_y = a.d_y,
          .filter = a.filters,
          .added = a.added,
          .mask = a.mask,
          .d_x = a.d_x,
          .n = a.n,
          .geometry = a.geometry,
          .form = a.form};
}
inline kernels::Conv2dWeightGrad single(const kernels::GroupedConv2dWeightGrad& a) {
  return {.x = a.x, .d_y = a.d_y, .d_filter = a.d_filters, .n = a.n, .geometry = a.geometry};
}

template <class On>
Row ConvData<On>::row(ConvKernel kernel, ConvWork work) {
  using namespace kernels;
  const auto size = static_cast<double>(size_of(g_.dtype)),
             master = static_cast<double>(size_of(g_.filter_dtype())),
             x_bytes = size * static_cast<double>(shape_.images * g_.x_size()),
             y_bytes = size * static_cast<double>(shape_.images * g_.y_size()),
             filters = static_cast<double>(shape_.experts * g_.filter_size());
  const bool grouped = kernel == ConvKernel::grouped_conv2d;
  switch (work) {
    case ConvWork::forward: {
      const GroupedConv2d a = forward();
      return {grouped ? call(a, grouped_conv2d_workspace, grouped_conv2d)
                      : call(single(a), conv2d_workspace, conv2d),
              x_bytes + 2 * y_bytes + size * filters, shape_.flops()};
    }
    case ConvWork::input_grad:
    case ConvWork::bare_input_grad: {
      GroupedConv2dInputGrad a = input_grad();
      const bool bare = work == ConvWork::bare_input_grad;
      if (bare) a.added = a.mask = nullptr;
      return {grouped ? call(a, grouped_conv2d_input_grad_workspace, grouped_conv2d_input_grad)
                      : call(single(a), conv2d_input_grad_workspace, conv2d_input_grad),
              (bare ? 1 : 3) * x_bytes + y_bytes + size * filters, shape_.flops()};
    }
    case ConvWork::weight_grad:
      break;
  }
  const GroupedConv2dWeightGrad a = weight_grad();
  return {grouped ? call(a, grouped_conv2d_weight_grad_workspace, grouped_conv2d_weight_grad)
                  : call(single(a), conv2d_weight_grad_workspace, conv2d_weight_grad),
          x_bytes + y_bytes + master * filters, shape_.flops()};
}

}  // namespace moat::bench
