#include "kernels/experts/moe_layer.h"

#include "tests/cuda/device_memory.h"
#include "tests/moe_layer_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
using DeviceLayer = Layer<T, DeviceArray>;

template <class Args>
Status run_on_device(Status (*pass)(Cuda, const Args&), size_t (*workspace)(Cuda, const Args&),
                     const Args& args, size_t missing = 0) {
  const Status status = run_pass<DeviceArray, Cuda, Args>({}, pass, workspace, args, missing);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}
Status run_on_device(const MoeLayer& args, size_t missing = 0) {
  return run_on_device<MoeLayer>(moe_layer, moe_layer_workspace, args, missing);
}
Status run_on_device(const MoeLayerGrad& args, size_t missing = 0) {
  return run_on_device<MoeLayerGrad>(moe_layer_grad, moe_layer_grad_workspace, args, missing);
}

// Every element within `tolerance` of the largest one.
template <class T>
void require_near(const DeviceArray<T>& device, const std::vector<double>& reference,
                  double tolerance) {
  const std::vector<T> values = device.host();
  REQUIRE(values.size() == reference.size());
  double largest = 0;
  for (double x : reference) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < values.size(); ++i) {
    INFO("element " << i << ": " << values[i] << ", reference " << reference[i]);
    REQUIRE(std::abs(values[i] - reference[i]) <= tolerance * largest);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: moe_layer and its gradient equal the CPU in float64", "[cuda][moe_layer]",
                   float, double) {
  for (const LayerProblem& p : layer_problems()) {
    if (p.tokens > 20) continue;  // the interpreter takes its time
    // Device memory of no bytes has no address, as a gradient that is not wanted.
    if (p.width * p.inner * p.out_width == 0) continue;
    const LayerProblem exact = rounded(p);
    const Layer<double, HostArray> reference(exact);
    const DeviceLayer<TestType> layer(exact);
    Context context;
    const Values d_y = widened(rounded<float>(normals(count_of(p.tokens, p.out_width), 7)));
    const HostArray<double> host_d_y(d_y);
    const DeviceArray<TestType> device_d_y(rounded<TestType>(d_y));
    INFO(p.tokens << " tokens, " << p.experts << " experts, k = " << p.k);
    REQUIRE(run_pass<HostArray, Cpu, MoeLayer>({&context}, moe_layer, moe_layer_workspace,
                                               reference.forward_args()) == Status::ok);
    REQUIRE(
        run_pass<HostArray, Cpu, MoeLayerGrad>({&context}, moe_layer_grad, moe_layer_grad_workspace,
                                               reference.backward_args(host_d_y)) == Status::ok);
    REQUIRE(run_on_device(layer.forward_args()) == Status::ok);
    REQUIRE(run_on_device(layer.backward_args(device_d_y)) == Status::ok);

    CHECK(layer.experts.host() == reference.experts.host());
    CHECK(layer.offsets.host() == reference.offsets.host());
    CHECK(layer.row_token.host() == reference.row_token.host());
    CHECK(layer.slot_of.host() == reference.slot_of.host());
    const double tolerance = 64 * roundoff<TestType>;
    require_near(layer.y, reference.y.host(), tolerance);
    require_near(layer.d_x, reference.d_x.host(), tolerance);
    require_near(layer.d_logits, reference.d_logits.host(), tolerance);
    require_near(layer.d_w_in, reference.d_w_in.host(), tolerance);
    require_near(layer.d_b_in, reference.d_b_in.host(), tolerance);
    require_near(layer.d_w_out, reference.d_w_out.host(), tolerance);
    require_near(layer.d_b_out, reference.d_b_out.host(), tolerance);

    const DeviceLayer<TestType> again(exact);
    REQUIRE(run_on_device(again.forward_args()) == Status::ok);
    REQUIRE(run_on_device(again.input_args(device_d_y)) == Status::ok);
    CHECK(again.y.host() == layer.y.host());
    CHECK(again.d_x.host() == layer.d_x.host());
    CHECK(again.d_logits.host() == layer.d_logits.host());
  }
}

TEST_CASE("cuda: moe_layer refuses what cannot work before any launch", "[cuda][moe_layer]") {
  const DeviceLayer<float> layer(layer_problems().front());
  MoeLayer args = layer.forward_args();
  args.k = args.num_experts + 1;
  CHECK(run_on_device(args) == Status::bad_args);
  CHECK(run_on_device(layer.forward_args(), 1) == Status::small_workspace);
  for (int32_t expert : layer.experts.host()) CHECK(expert == -1);
}

}  // namespace moat::tests
