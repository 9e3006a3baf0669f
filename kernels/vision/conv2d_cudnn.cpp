#include "kernels/vision/conv2d_cudnn.h"

#include <map>
#include <tuple>

#include "kernels/library/cuda_libraries.h"
#include "kernels/library/cudnn_graph.h"

// An image's result must not depend on how many come with it: which engine runs a convolution, and
// how it cuts the sums, is chosen once for kImages images and kept for every other number, unless
// it cannot run there. Weight gradients sum over the images and are chosen for each number. An
// engine chosen needs at most kMostWorkspace there; for more images it may ask for more. Plans are
// built on first use, which no recorded graph may contain: run a step once before.

namespace moat::kernels::cudnn {

namespace {

constexpr int kImages = 256;
constexpr int64_t kMostWorkspace = int64_t{256} << 20;

// Names of the tensors of a problem in its graph.
enum Id : int64_t { kInput = 1, kFilter, kOutput, kBias, kResidual, kMask, kFirstVirtual };

struct Built {
  ConvPlan about;
  Plan plan;
};

// All that a plan depends on but the number of images.
using Key = std::tuple<int, int, int, int, int, int, int, int, Dtype, ConvUse, bool, bool, bool,
                       bool, int, Precision>;
Key key_of(const ConvProblem& p, Precision precision) {
  const Conv2dGeometry& g = p.geometry;
  return {g.height,      g.width,       g.c_in,      g.c_out,  g.r,           g.s,
          g.stride,      g.padding,     g.dtype,     p.use,    p.behind.bias, p.behind.residual,
          p.behind.relu, p.behind.mask, p.alignment, precision};
}

struct Choice {
  bool fuses;
  Dtype d_filter_dtype;
  PlannedChoice chosen;
};

struct State {
  cudnnHandle_t handle = nullptr;
  std::map<std::tuple<Key, int>, Choice> chosen;  // by key and number of images chosen for
  std::map<std::tuple<Key, int>, Built> built;

  State() {
    if (cudnnCreate(&handle) != CUDNN_STATUS_SUCCESS) handle = nullptr;
  }
  ~State() {
    built.clear(), chosen.clear();  // their plans first
    if (handle) cudnnDestroy(handle);
  }
};

cudnnDataType_t data_type(Dtype dtype) {
  return dtype == Dtype::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

// y = relu(y + residual + bias), or behind the relu of a mask, in virtual float32 tensors, the last
// one real.
class Epilogue {
 public:
  Epilogue(const ConvProblem& p, std::array<int64_t, 4> shape) : p_(p), shape_(shape) {
    left_ = p.behind.bias + p.behind.residual + p.behind.relu + p.behind.mask;
  }

  // Where the next operation, the convolution first, writes.
  Descriptor next() {
    return left_ == 0
               ? tensor(kOutput, shape_, data_type(p_.geometry.dtype), p_.alignment, Memory::real)
               : tensor(kFirstVirtual + left_, shape_, CUDNN_DATA_FLOAT, p_.alignment,
                        Memory::virtual_);
  }

  void append(std::vector<Descriptor>& operations, Descriptor y) {
    const auto then = [&](cudnnPointwiseMode_t mode, auto&& operands) {
      --left_;
      Descriptor point(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
      point.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode)
          .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
          .finalize();
      const Descriptor result = next();
      Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
      operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, point);
      operands(operation, result);
      operations.push_back(operation.finalize());
      y = result;
    };
    const auto forward = [&](cudnnPointwiseMode_t mode, const Descriptor* other) {
      then(mode, [&](Descriptor& operation, const Descriptor& result) {
        operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, y)
            .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, result);
        if (other) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *other);
      });
    };
    const auto like_y = [&](Id id) {
      return tensor(id, shape_, data_type(p_.geometry.dtype), p_.alignment, Memory::real);
    };
    if (p_.behind.residual) {
      const Descriptor residual = like_y(kResidual);
      forward(CUDNN_POINTWISE_ADD, &residual);
    }
    if (p_.behind.bias) {
      const Descriptor bias =
          tensor(kBias, {1, shape_[1], 1, 1}, CUDNN_DATA_FLOAT, p_.alignment, Memory::real);
      forward(CUDNN_POINTWISE_ADD, &bias);
    }
    if (p_.behind.relu) forward(CUDNN_POINTWISE_RELU_FWD, nullptr);
    if (p_.behind.mask)
      then(CUDNN_POINTWISE_RELU_BWD, [&](Descriptor& operation, const Descriptor& result) {
        operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, like_y(kMask))
            .set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, y)
            .set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, result);
      });
  }

 private:
  const ConvProblem& p_;
  std::array<int64_t, 4> shape_;
  int left_;  // operations that are still to come
};

Descriptor convolution(const Conv2dGeometry& g) {
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor made(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  made.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {g.padding, g.padding})
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {g.padding, g.padding})
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1})
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {g.stride, g.stride});
  return made.finalize();
}

// The graph of a problem; with `fused`, of what runs behind it too.
Descriptor graph_of(cudnnHandle_t handle, ConvProblem p, bool fused, Dtype d_filter_dtype) {
  if (!fused) p.behind = {};
  const Conv2dGeometry& g = p.geometry;
  const cudnnDataType_t type = data_type(g.dtype);
  const std::array<int64_t, 4> x_shape{p.n, g.c_in, g.height, g.width},
      y_shape{p.n, g.c_out, g.out_height(), g.out_width()}, w_shape{g.c_out, g.c_in, g.r, g.s};
  const auto real = [&](int64_t id, const std::array<int64_t, 4>& shape, cudnnDataType_t of) {
    return tensor(id, shape, of, p.alignment, Memory::real);
  };
  const float one = 1, zero = 0;
  std::vector<Descriptor> operations;
  if (p.use == ConvUse::forward) {
    Epilogue epilogue(p, y_shape);
    const Descriptor y = epilogue.next();
    Descriptor conv(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    conv.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(g))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, real(kInput, x_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, real(kFilter, w_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    operations.push_back(conv.finalize());
    epilogue.append(operations, y);
  } else if (p.use == ConvUse::input_grad) {
    Epilogue epilogue(p, x_shape);
    const Descriptor d_x = epilogue.next();
    Descriptor conv(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
    conv.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, convolution(g))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, real(kInput, y_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, real(kFilter, w_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, d_x)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, &one)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    operations.push_back(conv.finalize());
    epilogue.append(operations, d_x);
  } else {
    Descriptor conv(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
    conv.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, convolution(g))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, real(kInput, x_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, real(kFilter, y_shape, type))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
             real(kOutput, w_shape, data_type(d_filter_dtype)))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1, &one)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    operations.push_back(conv.finalize());
  }
  return graph(handle, operations);
}

// cuDNN 9.19 takes fused input gradients of addresses that are no multiples of 16, and then adds
// the wrong values (seen on an H200, in bfloat16 and tf32).
bool is_misread(const ConvProblem& p) {
  return p.use == ConvUse::input_grad && p.alignment % 16 != 0;
}

std::optional<Choice> chosen_for(cudnnHandle_t handle, const ConvProblem& p, Precision precision) {
  const Arithmetic arithmetic = p.geometry.dtype == Dtype::f32 && precision == Precision::float32
                                    ? Arithmetic::exact
                                    : Arithmetic::tensor_cores;
  for (const bool fused : {true, false}) {
    if (fused && (!p.behind.any() || is_misread(p))) continue;
    for (const Dtype d_filter : {Dtype::f32, Dtype::bf16}) {
      if (d_filter == Dtype::bf16 &&
          (p.use != ConvUse::weight_grad || p.geometry.dtype != Dtype::bf16))
        continue;
      const auto found =
          choose(handle, graph_of(handle, p, fused, d_filter), arithmetic, kMostWorkspace);
      if (found) return Choice{fused, d_filter, *found};
    }
  }
  return std::nullopt;
}

// The choice made for `n` images, once.
const Choice* choice_for(State& state, ConvProblem p, int n, Precision precision) {
  const auto key = std::tuple(key_of(p, precision), n);
  auto found = state.chosen.find(key);
  if (found == state.chosen.end()) {
    p.n = n;
    const auto choice = chosen_for(state.handle, p, precision);
    if (!choice) return nullptr;
    found = state.chosen.emplace(key, *choice).first;
  }
  return &found->second;
}

const Built* built_for(Cuda on, const ConvProblem& p, Status* status) {
  auto& state = cuda_library<State>(*on.context, &CudaLibraries::cudnn);
  *status = Status::library_failed;
  if (!state.handle) return nullptr;
  const Precision precision = on.context->precision();
  const auto key = std::tuple(key_of(p, precision), p.n);
  const auto found = state.built.find(key);
  if (found != state.built.end()) return &found->second;
  *status = Status::unsupported;
  for (const int n : {p.use == ConvUse::weight_grad ? p.n : kImages, p.n}) {
    const Choice* choice = choice_for(state, p, n, precision);
    if (!choice) continue;
    const std::optional<Plan> plan =
        n == p.n ? choice->chosen.plan
                 : plan_of(state.handle,
                           graph_of(state.handle, p, choice->fuses, choice->d_filter_dtype),
                           choice->chosen.engine);
    if (!plan) continue;
    const ConvPlan about{static_cast<size_t>(plan->workspace_bytes), choice->fuses,
                         choice->d_filter_dtype};
    return &state.built.emplace(key, Built{about, *plan}).first->second;
  }
  return nullptr;
}

}  // namespace

Status plan(Cuda on, const ConvProblem& p, ConvPlan* about) {
  Status status = Status::ok;
  const Built* built = built_for(on, p, &status);
  if (!built) return status;
  *about = built->about;
  return Status::ok;
}

Status run(Cuda on, const ConvProblem& p, const ConvData& data) {
  Status status = Status::ok;
  const Built* built = built_for(on, p, &status);
  if (!built) return status;
  auto& state = cuda_library<State>(*on.context, &CudaLibraries::cudnn);
  if (cudnnSetStream(state.handle, on.stream) != CUDNN_STATUS_SUCCESS)
    return Status::library_failed;
  std::vector<int64_t> ids{kInput, kFilter, kOutput};
  std::vector<void*> pointers{const_cast<void*>(data.input), const_cast<void*>(data.filter),
                              data.output};
  const auto add = [&](int64_t id, const void* pointer) {
    ids.push_back(id);
    pointers.push_back(const_cast<void*>(pointer));
  };
  if (built->about.fuses && p.behind.bias) add(kBias, data.bias);
  if (built->about.fuses && p.behind.residual) add(kResidual, data.residual);
  if (built->about.fuses && p.behind.mask) add(kMask, data.mask);
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids)
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, std::ssize(pointers),
           pointers.data())
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &on.workspace)
      .finalize();
  return pack.ok() && cudnnBackendExecute(state.handle, built->plan.descriptor.get(), pack.get()) ==
                          CUDNN_STATUS_SUCCESS
             ? Status::ok
             : Status::library_failed;
}

}  // namespace moat::kernels::cudnn
