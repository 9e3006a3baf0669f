#include "kernels/experts/grouped_conv2d.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/experts/grouped_conv2d/sm80.h"
#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/library/context.h"

namespace moat::kernels {

namespace {

// Like conv2d.cpp's, for a batch.
template <class Grouped>
bool is_valid(const Grouped& a) {
  const Conv2dGeometry& g = a.geometry;
  return a.n >= 0 && a.experts >= 0 && (a.offsets || a.experts == 1) && g.height > 0 &&
         g.width > 0 && g.c_in > 0 && g.c_out > 0 && g.r > 0 && g.s > 0 && g.stride > 0 &&
         g.padding >= 0 && int64_t{g.height} + 2 * g.padding >= g.r &&
         int64_t{g.width} + 2 * g.padding >= g.s &&
         (g.dtype == Dtype::f64 || g.dtype == Dtype::f32 || g.dtype == Dtype::bf16);
}

Precision precision(Cuda on) { return on.context ? on.context->precision() : Precision::float32; }

template <class Product>
bool takes_hopper(const Product& a) {
  return sm90::can_run(a) && on_hopper();
}

// Filters that bfloat16 images meet are rounded first, to where the packed form has them.
template <class Grouped>
bool rounds_filters(const Grouped& a) {
  return a.geometry.dtype == Dtype::bf16 && a.form == FilterForm::krsc;
}

// A thread rounds kValues values: 4 bytes read and 2 written for each.
inline constexpr int kRoundThreads = 256;
template <int kValues>
__global__ void __launch_bounds__(kRoundThreads)
    round_filters_kernel(const float* filters, Bf16* rounded, int64_t size, int64_t stride,
                         int experts) {
  const int64_t i = (int64_t{blockIdx.x} * kRoundThreads + threadIdx.x) * kValues;
  if (i >= size * experts) return;
  constexpr int kPart = kValues == 1 ? 1 : kVectorSize<float>;
  Vector<Bf16, kValues> values;
#pragma unroll
  for (int part = 0; part < kValues; part += kPart) {
    const Vector<float, kPart> from = load<kPart>(filters + i + part);
#pragma unroll
    for (int j = 0; j < kPart; ++j) values.values[part + j] = Bf16(from.values[j]);
  }
  store(rounded + i / size * stride + i % size, values);
}

template <class Grouped>
Status round_filters(Cuda on, const Grouped& a, int64_t stride) {
  const int64_t size = a.geometry.filter_size();
  const auto* filters = static_cast<const float*>(a.filters);
  auto* rounded = static_cast<Bf16*>(on.workspace);
  return with_vector<Bf16>(size, {filters, rounded}, [&]<int kValues>() {
    const int64_t each = int64_t{kRoundThreads} * kValues,
                  blocks = (size * a.experts + each - 1) / each;
    if (blocks > INT32_MAX) return Status::unsupported;
    return launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kRoundThreads)},
                  round_filters_kernel<kValues>, filters, rounded, size, stride, a.experts);
  });
}

template <class Grouped>
size_t workspace(const Grouped& a) {
  return is_valid(a) && rounds_filters(a)
             ? static_cast<size_t>(a.experts) * packed_filter_stride(a.geometry)
             : 0;
}

template <class Grouped>
Status run(Cuda on, const Grouped& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(a) || (g.dtype == Dtype::f64 && a.form == FilterForm::packed))
    return Status::bad_args;
  if (!is_countable(a)) return Status::unsupported;
  if (on.workspace_bytes < workspace(a)) return Status::small_workspace;
  if (a.n == 0) return Status::ok;
  ConvProduct p = conv_product(a, precision(on));
  if (rounds_filters(a)) {
    p.filters = on.workspace;
    p.filter_stride = static_cast<int64_t>(packed_filter_stride(g) / size_of(g.dtype));
    if (const Status status = round_filters(on, a, p.filter_stride); status != Status::ok)
      return status;
  }
  return takes_hopper(p) ? sm90::run(on, p) : sm80::run(on, p, sm80::extent(p));
}

}  // namespace

size_t grouped_conv2d_workspace(Cuda, const GroupedConv2d& a) { return workspace(a); }
Status grouped_conv2d(Cuda on, const GroupedConv2d& a) { return run(on, a); }

size_t grouped_conv2d_input_grad_workspace(Cuda, const GroupedConv2dInputGrad& a) {
  return workspace(a);
}
Status grouped_conv2d_input_grad(Cuda on, const GroupedConv2dInputGrad& a) { return run(on, a); }

size_t grouped_conv2d_weight_grad_workspace(Cuda, const GroupedConv2dWeightGrad& a) {
  if (!is_valid(a) || !is_countable(a)) return 0;
  return takes_hopper(a) ? sm90::workspace(a, sm90::splits(a))
                         : sm80::workspace(a, sm80::splits(a));
}
Status grouped_conv2d_weight_grad(Cuda on, const GroupedConv2dWeightGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (!is_countable(a)) return Status::unsupported;
  if (on.workspace_bytes < grouped_conv2d_weight_grad_workspace(on, a))
    return Status::small_workspace;
  if (takes_hopper(a)) return sm90::run(on, a);
  return sm80::run(on, a, sm80::extent(a, precision(on)), precision(on), sm80::splits(a));
}

}  // namespace moat::kernels
