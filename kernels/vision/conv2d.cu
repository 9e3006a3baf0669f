#include "kernels/vision/conv2d.h"

#include <algorithm>
#include <bit>
#include <initializer_list>

#include "kernels/basic/copy.h"
#include "kernels/ceil_div.h"
#include "kernels/cuda/hopper.h"
#include "kernels/experts/grouped_conv2d/product.h"
#include "kernels/experts/grouped_conv2d/sm90.h"
#include "kernels/library/context.h"
#include "kernels/vision/conv2d_cudnn.h"
#include "kernels/vision/conv2d_f64.h"
#include "kernels/vision/conv_epilogue.h"

// float32 and bfloat16 are cuDNN's, float64 is a loop of our own. Two kinds of bfloat16 are
// grouped_conv2d's with one expert: weight gradients with channels in eights, since cuDNN's
// deterministic ones do not split the pixels, and round; and on Hopper thin layers, which cuDNN
// reads once per tap, and deep ones of small images.
// cuDNN compiles a plan for every number of images, in tenths of a second. So images run in chunks
// of few sizes, the last of which begins early enough to be whole: what two chunks share is
// computed twice, to the same bits. What cuDNN's plan leaves over is done around it: bfloat16
// activations meet a filter that is rounded on each call unless it comes packed, an epilogue that
// no plan fuses is one more pass over y, and a weight gradient that no plan gives in float32 is
// widened.

namespace moat::kernels {

namespace {

using cudnn::ConvPlan;
using cudnn::ConvProblem;
using cudnn::ConvUse;

bool is_valid(const Conv2dGeometry& g, int n) {
  return n >= 0 && g.height > 0 && g.width > 0 && g.c_in > 0 && g.c_out > 0 && g.r > 0 && g.s > 0 &&
         g.stride > 0 && g.padding >= 0 && g.height + 2 * g.padding >= g.r &&
         g.width + 2 * g.padding >= g.s;
}

// Pieces of a workspace start at multiples of what cuDNN may ask of an address.
constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

Status convert(Cuda on, const void* from, Dtype from_dtype, void* to, Dtype to_dtype,
               int64_t count) {
  return copy(on, {.from = from,
                   .to = to,
                   .extents = {1, 1, 1, 1, 1, count},
                   .from_strides = {0, 0, 0, 0, 0, 1},
                   .to_strides = {0, 0, 0, 0, 0, 1},
                   .from_dtype = from_dtype,
                   .to_dtype = to_dtype});
}

// What cuDNN may rely on of every image's address, wherever in a batch it lies: 16 bytes where all
// addresses and the sizes of images allow it. An image must meet the same engine in any batch.
int alignment(const Conv2dGeometry& g, std::initializer_list<const void*> pointers) {
  constexpr int kLargest = 16;
  const auto bytes = static_cast<int>(size_of(g.dtype));
  bool fits = g.x_size() * bytes % kLargest == 0 && g.y_size() * bytes % kLargest == 0;
  for (const void* pointer : pointers) fits &= reinterpret_cast<uintptr_t>(pointer) % kLargest == 0;
  return fits ? kLargest : bytes;
}

// Images of a chunk: enough to fill the chip. A power of two, a number that other batches have as
// well, where that computes at most an eighth more, else as few equal chunks as there can be.
int chunk_of(int n) {
  constexpr int kMost = 256;
  const int power = std::min(static_cast<int>(std::bit_floor(static_cast<unsigned>(n))), kMost);
  if (ceil_div(n, power) * power <= n + int64_t{n} / 8) return power;
  return static_cast<int>(ceil_div(n, ceil_div(n, kMost)));
}

// The problem that a plan is asked for, of a chunk or, for a weight gradient, of all images.
ConvProblem problem_of(const Conv2d& a) {
  return {a.geometry,
          ConvUse::forward,
          {.bias = a.bias != nullptr,
           .residual = a.residual != nullptr,
           .relu = a.activation == ConvActivation::relu},
          chunk_of(a.n),
          alignment(a.geometry, {a.x, a.filter, a.bias, a.residual, a.y})};
}
ConvProblem problem_of(const Conv2dInputGrad& a) {
  return {a.geometry,
          ConvUse::input_grad,
          {.residual = a.added != nullptr, .mask = a.mask != nullptr},
          chunk_of(a.n),
          alignment(a.geometry, {a.d_y, a.filter, a.added, a.mask, a.d_x})};
}
ConvProblem problem_of(const Conv2dWeightGrad& a) {
  return {
      a.geometry, ConvUse::weight_grad, {}, a.n, alignment(a.geometry, {a.x, a.d_y, a.d_filter})};
}

// The bytes of the filter, or its gradient, in the form that the library takes or gives where that
// is not the caller's.
size_t converted_bytes(const Conv2dGeometry& g) {
  return aligned(static_cast<size_t>(g.filter_size()) * size_of(g.dtype));
}
template <class Args>
size_t filter_bytes(const Args& a, const ConvPlan&) {
  return a.form == FilterForm::krsc && a.geometry.dtype == Dtype::bf16 ? converted_bytes(a.geometry)
                                                                       : 0;
}
size_t filter_bytes(const Conv2dWeightGrad& a, const ConvPlan& plan) {
  return plan.d_filter_dtype == Dtype::f32 ? 0 : converted_bytes(a.geometry);
}

// One expert that has all images.
GroupedConv2d grouped(const Conv2d& a) {
  return {.x = a.x,
          .filters = a.filter,
          .bias = a.bias,
          .residual = a.residual,
          .y = a.y,
          .offsets = nullptr,
          .n = a.n,
          .experts = 1,
          .geometry = a.geometry,
          .form = a.form,
          .activation = a.activation};
}
GroupedConv2dInputGrad grouped(const Conv2dInputGrad& a) {
  return {.d_y = a.d_y,
          .filters = a.filter,
          .added = a.added,
          .mask = a.mask,
          .d_x = a.d_x,
          .offsets = nullptr,
          .n = a.n,
          .experts = 1,
          .geometry = a.geometry,
          .form = a.form};
}
GroupedConv2dWeightGrad grouped(const Conv2dWeightGrad& a) {
  return {.x = a.x,
          .d_y = a.d_y,
          .d_filters = a.d_filter,
          .offsets = nullptr,
          .n = a.n,
          .experts = 1,
          .geometry = a.geometry};
}

// 512 channels of 4 x 4 pixels, 512 images on an H200: 60 us where cuDNN takes 83, and 55 for 73 of
// the input gradient. From 8 x 8 on cuDNN is the faster.
bool is_deep_and_small(const ConvProduct& a) {
  constexpr int kMostPixels = 16, kDeep = 64;
  return a.geometry.stride == 1 && a.to_shape.pixels() <= kMostPixels &&
         a.from_shape.channels % kDeep == 0 && a.to_shape.channels % kDeep == 0 && sm90::can_run(a);
}

// Whether a valid convolution is grouped_conv2d's.
template <class Args>
bool is_grouped(const Args& a) {
  const ConvProduct product = conv_product(grouped(a), Precision::float32);
  return (sm90::fits_window(product) || is_deep_and_small(product)) && on_hopper();
}
// Its sums are split over the chip in a fixed order and stay float32. Its copies are of 16 bytes.
bool is_grouped(const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  return g.dtype == Dtype::bf16 && g.c_in % 8 == 0 && g.c_out % 8 == 0 &&
         alignment(g, {a.x, a.d_y, a.d_filter}) == 16 && is_countable(grouped(a));
}

template <class Args>
size_t workspace(Cuda on, const Args& a) {
  if (!is_valid(a.geometry, a.n) || a.n == 0 || a.geometry.dtype == Dtype::f64 || !on.context ||
      !supports(on, a.geometry.dtype))
    return 0;
  ConvPlan plan{};
  if (cudnn::plan(on, problem_of(a), &plan) != Status::ok) return 0;
  return filter_bytes(a, plan) + aligned(plan.workspace_bytes);
}

// What the library's call gets: the workspace behind the converted filter.
Cuda behind(Cuda on, size_t bytes) {
  on.workspace = static_cast<char*>(on.workspace) + bytes;
  on.workspace_bytes -= bytes;
  return on;
}

Status finish(Cuda on, const Conv2d& a, const ConvPlan& plan) {
  if (plan.fuses || !problem_of(a).behind.any()) return Status::ok;
  const Conv2dGeometry& g = a.geometry;
  return conv_epilogue(on, {.bias = a.bias,
                            .residual = a.residual,
                            .mask = nullptr,
                            .y = a.y,
                            .pixels = int64_t{a.n} * g.out_height() * g.out_width(),
                            .channels = g.c_out,
                            .activation = a.activation,
                            .dtype = g.dtype});
}
Status finish(Cuda on, const Conv2dInputGrad& a, const ConvPlan& plan) {
  if (plan.fuses || !problem_of(a).behind.any()) return Status::ok;
  const Conv2dGeometry& g = a.geometry;
  return conv_epilogue(on, {.bias = nullptr,
                            .residual = a.added,
                            .mask = a.mask,
                            .y = a.d_x,
                            .pixels = int64_t{a.n} * g.height * g.width,
                            .channels = g.c_in,
                            .activation = ConvActivation::none,
                            .dtype = g.dtype});
}

// The operands of a chunk from image `first` on.
cudnn::ConvData images_from(int first, const ConvProblem& p, cudnn::ConvData data) {
  const Conv2dGeometry& g = p.geometry;
  const bool is_forward = p.use == ConvUse::forward;
  const auto bytes = [&](int64_t values) {
    return first * values * static_cast<int64_t>(size_of(g.dtype));
  };
  const int64_t in = bytes(is_forward ? g.x_size() : g.y_size()),
                out = bytes(is_forward ? g.y_size() : g.x_size());
  const auto at = [](const void* data, int64_t offset) {
    return data ? static_cast<const char*>(data) + offset : nullptr;
  };
  data.input = at(data.input, in);
  data.output = static_cast<char*>(data.output) + out;
  data.residual = at(data.residual, out);
  data.mask = at(data.mask, out);
  return data;
}

// The filter in the activations' dtype, then the library, then what its plan left over.
template <class Args>
Status convolve(Cuda on, const Args& a, const ConvPlan& plan, cudnn::ConvData data) {
  const Conv2dGeometry& g = a.geometry;
  const size_t bytes = filter_bytes(a, plan);
  if (bytes > 0) {
    const Status status = convert(on, a.filter, Dtype::f32, on.workspace, g.dtype, g.filter_size());
    if (status != Status::ok) return status;
    data.filter = on.workspace;
  }
  const ConvProblem chunk = problem_of(a);
  Status status = Status::ok;
  for (int first = 0; first < a.n && status == Status::ok; first += chunk.n)
    status = cudnn::run(behind(on, bytes), chunk,
                        images_from(std::min(first, a.n - chunk.n), chunk, data));
  return status == Status::ok ? finish(on, a, plan) : status;
}

Status by_library(Cuda on, const Conv2d& a, const ConvPlan& plan) {
  return convolve(
      on, a, plan,
      {.input = a.x, .filter = a.filter, .output = a.y, .bias = a.bias, .residual = a.residual});
}
Status by_library(Cuda on, const Conv2dInputGrad& a, const ConvPlan& plan) {
  return convolve(
      on, a, plan,
      {.input = a.d_y, .filter = a.filter, .output = a.d_x, .residual = a.added, .mask = a.mask});
}
Status by_library(Cuda on, const Conv2dWeightGrad& a, const ConvPlan& plan) {
  const size_t bytes = filter_bytes(a, plan);
  const cudnn::ConvData data{
      .input = a.x, .filter = a.d_y, .output = bytes > 0 ? on.workspace : a.d_filter};
  const Status status = cudnn::run(behind(on, bytes), problem_of(a), data);
  if (status != Status::ok || bytes == 0) return status;
  return convert(on, on.workspace, plan.d_filter_dtype, a.d_filter, Dtype::f32,
                 a.geometry.filter_size());
}

// n > 0.
template <class Args>
Status run(Cuda on, const Args& a) {
  if (!supports(on, a.geometry.dtype)) return Status::unsupported;
  if constexpr (requires { a.form; })
    if (a.geometry.dtype == Dtype::f64 && a.form != FilterForm::krsc) return Status::bad_args;
  if (a.geometry.dtype == Dtype::f64) return f64::run(on, a);
  if (!on.context) return Status::bad_args;
  ConvPlan plan{};
  if (const Status status = cudnn::plan(on, problem_of(a), &plan); status != Status::ok)
    return status;
  if (on.workspace_bytes < workspace(on, a)) return Status::small_workspace;
  return by_library(on, a, plan);
}

}  // namespace

size_t conv2d_workspace(Cuda on, const Conv2d& a) {
  return is_valid(a.geometry, a.n) && is_grouped(a) ? grouped_conv2d_workspace(on, grouped(a))
                                                    : workspace(on, a);
}

Status conv2d(Cuda on, const Conv2d& a) {
  if (!is_valid(a.geometry, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  return is_grouped(a) ? grouped_conv2d(on, grouped(a)) : run(on, a);
}

size_t conv2d_input_grad_workspace(Cuda on, const Conv2dInputGrad& a) {
  return is_valid(a.geometry, a.n) && is_grouped(a)
             ? grouped_conv2d_input_grad_workspace(on, grouped(a))
             : workspace(on, a);
}

Status conv2d_input_grad(Cuda on, const Conv2dInputGrad& a) {
  if (!is_valid(a.geometry, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  return is_grouped(a) ? grouped_conv2d_input_grad(on, grouped(a)) : run(on, a);
}

size_t conv2d_weight_grad_workspace(Cuda on, const Conv2dWeightGrad& a) {
  return is_valid(a.geometry, a.n) && is_grouped(a)
             ? grouped_conv2d_weight_grad_workspace(on, grouped(a))
             : workspace(on, a);
}

Status conv2d_weight_grad(Cuda on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(g, a.n)) return Status::bad_args;
  if (a.n == 0)
    return fill(
        on, {.to = a.d_filter, .count = g.filter_size(), .value = 0, .dtype = g.filter_dtype()});
  return is_grouped(a) ? grouped_conv2d_weight_grad(on, grouped(a)) : run(on, a);
}

size_t conv2d_packed_bytes(Cuda on, const Conv2dGeometry& g, FilterUse) {
  return is_valid(g, 0) && g.dtype != Dtype::f64 && supports(on, g.dtype)
             ? static_cast<size_t>(g.filter_size()) * size_of(g.dtype)
             : 0;
}

size_t conv2d_pack_workspace(Cuda, const Conv2dPack&) { return 0; }

Status conv2d_pack(Cuda on, const Conv2dPack& a) {
  if (!is_valid(a.geometry, 0)) return Status::bad_args;
  if (!supports(on, a.geometry.dtype)) return Status::unsupported;
  if (a.geometry.dtype == Dtype::f64) return Status::ok;
  return convert(on, a.filter, Dtype::f32, a.packed, a.geometry.dtype, a.geometry.filter_size());
}

}  // namespace moat::kernels
