// In the place of cuDNN: the CPU's convolutions, in the order of the stream. Its plans differ as
// cuDNN's may, so that everything around them runs: some fuse what comes behind and some do not,
// some weight gradients of bfloat16 come in bfloat16.

#include "kernels/vision/conv2d.h"

#include "kernels/library/context.h"
#include "kernels/vision/conv2d_cudnn.h"
#include "tests/simt/library/host_values.h"

namespace moat::kernels::cudnn {

namespace {

ConvPlan plan_of(const ConvProblem& p) {
  const Conv2dGeometry& g = p.geometry;
  return {.workspace_bytes = 256 + static_cast<size_t>(g.c_in),
          .fuses = p.behind.any() && g.c_out % 2 == 0,
          .d_filter_dtype = g.dtype == Dtype::bf16 && g.c_in % 2 == 1 ? Dtype::bf16 : Dtype::f32};
}

// Calls the CPU's kernel with its workspace, and a context of its own: a graph that is launched
// later may outlive the caller's.
template <class Args>
void call(size_t (*workspace_of)(Cpu, const Args&), Status (*kernel)(Cpu, const Args&),
          const Args& args) {
  Context context;
  std::vector<char> workspace(workspace_of(Cpu{&context}, args) + 64);
  tests::require_ok(kernel(tests::on_cpu(context, workspace), args));
}

void convolve(const ConvProblem& p, const ConvPlan& plan, const ConvData& data) {
  Conv2dGeometry g = p.geometry;
  const Dtype dtype = g.dtype;
  g.dtype = Dtype::f32;
  const auto fetched = tests::fetched<float>;
  const int64_t x_size = p.n * g.x_size(), y_size = p.n * g.y_size();
  const ConvFusion fused = plan.fuses ? p.behind : ConvFusion{};
  if (p.use == ConvUse::forward) {
    const auto x = fetched(data.input, x_size, dtype),
               filter = fetched(data.filter, g.filter_size(), dtype);
    const auto bias = fetched(fused.bias ? data.bias : nullptr, g.c_out, Dtype::f32),
               residual = fetched(fused.residual ? data.residual : nullptr, y_size, dtype);
    std::vector<float> y(static_cast<size_t>(y_size));
    call<Conv2d>(conv2d_workspace, conv2d,
                 {.x = x.data(),
                  .filter = filter.data(),
                  .bias = fused.bias ? bias.data() : nullptr,
                  .residual = fused.residual ? residual.data() : nullptr,
                  .y = y.data(),
                  .n = p.n,
                  .geometry = g,
                  .form = FilterForm::krsc,
                  .activation = fused.relu ? ConvActivation::relu : ConvActivation::none});
    tests::deliver(y, data.output, dtype);
  } else if (p.use == ConvUse::input_grad) {
    const auto d_y = fetched(data.input, y_size, dtype),
               filter = fetched(data.filter, g.filter_size(), dtype);
    const auto added = fetched(fused.residual ? data.residual : nullptr, x_size, dtype),
               mask = fetched(fused.mask ? data.mask : nullptr, x_size, dtype);
    std::vector<float> d_x(static_cast<size_t>(x_size));
    call<Conv2dInputGrad>(conv2d_input_grad_workspace, conv2d_input_grad,
                          {.d_y = d_y.data(),
                           .filter = filter.data(),
                           .added = fused.residual ? added.data() : nullptr,
                           .mask = fused.mask ? mask.data() : nullptr,
                           .d_x = d_x.data(),
                           .n = p.n,
                           .geometry = g,
                           .form = FilterForm::krsc});
    tests::deliver(d_x, data.output, dtype);
  } else {
    const auto x = fetched(data.input, x_size, dtype), d_y = fetched(data.filter, y_size, dtype);
    std::vector<float> d_filter(static_cast<size_t>(g.filter_size()));
    call<Conv2dWeightGrad>(
        conv2d_weight_grad_workspace, conv2d_weight_grad,
        {.x = x.data(), .d_y = d_y.data(), .d_filter = d_filter.data(), .n = p.n, .geometry = g});
    tests::deliver(d_filter, data.output, plan.d_filter_dtype);
  }
}

}  // namespace

Status plan(Cuda, const ConvProblem& problem, ConvPlan* plan) {
  *plan = plan_of(problem);
  return Status::ok;
}

Status run(Cuda on, const ConvProblem& problem, const ConvData& data) {
  const ConvPlan plan = plan_of(problem);
  if (on.workspace_bytes < plan.workspace_bytes) return Status::small_workspace;
  const auto work = [problem, data, plan, workspace = on.workspace] {
    tests::scribble(workspace, plan.workspace_bytes);
    convolve(problem, plan, data);
  };
  return simt::run_on_stream(on.stream, work) == cudaSuccess ? Status::ok : Status::library_failed;
}

}  // namespace moat::kernels::cudnn
