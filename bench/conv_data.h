#pragma once

#include "bench/blocks.h"
#include "bench/conv_shapes.h"
#include "bench/row.h"
#include "kernels/experts/grouped_conv2d.h"

namespace moat::bench {

// What is measured of a convolution: with bias, residual and relu behind it, as the last of a
// residual block; what an attack's backward pass asks of it, with a gradient to add and a mask, and
// without them; and the gradient of its filters.
enum class ConvWork { forward, input_grad, bare_input_grad, weight_grad };
// One expert's convolutions are conv2d's, which may have a library's, and grouped_conv2d's.
enum class ConvKernel { conv2d, grouped_conv2d };

// One convolution's tensors on the target, and the work on them; all values are N(0, 1), filters
// packed.
template <class On>
class ConvData {
 public:
  ConvData(Workbench& bench, On on, const ConvShape& shape, kernels::Dtype dtype,
           const NormalValues& normals);
  ConvData(const ConvData&) = delete;
  ConvData& operator=(const ConvData&) = delete;

  Row row(ConvKernel kernel, ConvWork work);  // good until the next one is asked for

 private:
  void* packed(kernels::FilterUse use);
  On scratch(size_t bytes) { return blocks_.with_workspace(on_, bytes); }
  template <class Args>
  std::function<kernels::Status()> call(const Args& args, size_t (*workspace)(On, const Args&),
                                        kernels::Status (*kernel)(On, const Args&)) {
    return [on = scratch(workspace(on_, args)), args, kernel] { return kernel(on, args); };
  }

  kernels::GroupedConv2d forward() const;
  kernels::GroupedConv2dInputGrad input_grad() const;
  kernels::GroupedConv2dWeightGrad weight_grad() const;

  Blocks blocks_;
  On on_;
  ConvShape shape_;
  kernels::Conv2dGeometry g_;
  void *x_, *y_, *residual_, *d_y_, *d_x_, *added_, *filters_, *bias_, *d_filters_;
  void *packed_forward_, *packed_input_grad_;
  int32_t* offsets_ = nullptr;
};

}  // namespace moat::bench
