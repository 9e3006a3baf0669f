// The C API on CUDA tensors: every legal call gives what it gives on the CPU.

#include "tests/c_api_calls.h"

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using Catch::Matchers::Contains;

namespace {

// The tensors of a call in device memory, in the place of those on the host.
class OnDevice {
 public:
  explicit OnDevice(LegalCall& call) : call_(call) {
    call.on.device = {kDLCUDA, 0};
    for (TensorOfCall& t : call.tensors) {
      memory_.emplace_back(t.memory);
      t.dl.data = memory_.back().data();
      t.dl.device = call.on.device;
    }
  }

  moat_status run() {
    moat_target on = call_.on;
    if (call_.workspace && call_.workspace(&on, &on.workspace_bytes) != MOAT_OK)
      return MOAT_BAD_ARGS;
    const DeviceArray<char> workspace(on.workspace_bytes);
    on.workspace = workspace.data();
    const moat_status status = call_.run(&on);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    return status;
  }
  // A tensor as it is on the device.
  std::vector<double> host(size_t tensor) const { return memory_[tensor].host(); }

 private:
  LegalCall& call_;
  std::deque<DeviceArray<double>> memory_;
};

void fill(LegalCall& call) {
  for (TensorOfCall& t : call.tensors) {
    if (t.is_written() || t.dl.dtype.code != kDLFloat) continue;
    const auto values = normals(t.bytes() / (t.dl.dtype.bits / 8), 1);
    for (size_t i = 0; i < values.size(); ++i)
      t.dl.dtype.bits == 64 ? t.memory[i] = values[i]
                            : t.floats()[i] = static_cast<float>(values[i]);
  }
}

struct OwnedContext {
  OwnedContext() { REQUIRE(moat_context_create(&context) == MOAT_OK); }
  ~OwnedContext() { moat_context_destroy(context); }
  moat_context* context = nullptr;
};

void require_equal(const TensorOfCall& host, const std::vector<double>& device) {
  const auto *a = reinterpret_cast<const float*>(host.memory.data()),
             *b = reinterpret_cast<const float*>(device.data());
  if (host.dl.dtype.code == kDLInt) {
    REQUIRE(std::memcmp(a, b, host.bytes()) == 0);
    return;
  }
  const bool is_f64 = host.dl.dtype.bits == 64;
  for (size_t i = 0; i < host.bytes() / (is_f64 ? 8 : 4); ++i) {
    const double x = is_f64 ? host.memory[i] : double{a[i]}, y = is_f64 ? device[i] : double{b[i]};
    INFO("element " << i);
    REQUIRE(y == Approx(x).epsilon(1e-5).margin(1e-5));  // sums of a few values around 1
  }
}

}  // namespace

TEST_CASE("cuda: the C API gives on a device what it gives on the CPU", "[cuda][c_api]") {
  const OwnedContext owned;
  for (const auto& make : legal_calls()) {
    LegalCall host = make(owned.context), device = make(owned.context);
    INFO(host.name);
    fill(host);
    fill(device);
    REQUIRE(host.run(&host.on) == MOAT_OK);
    OnDevice on_device(device);
    const moat_status status = on_device.run();
    INFO(moat_last_error());
    REQUIRE(status == MOAT_OK);
    for (size_t i = 0; i < host.tensors.size(); ++i) {
      INFO(host.tensors[i].name);
      if (host.tensors[i].is_written()) require_equal(host.tensors[i], on_device.host(i));
    }
  }
}

TEST_CASE("cuda: the C API refuses tensors and targets of another device", "[cuda][c_api]") {
  const OwnedContext owned;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(owned.context);
    INFO(call.name);
    OnDevice on_device(call);
    call.on.device.device_id = 1;
    CHECK(call.run(&call.on) == MOAT_BAD_ARGS);
    CHECK_THAT(moat_last_error(), Contains("must be the current one, cuda:0, got cuda:1"));
    call.on.device.device_id = 0;
    for (TensorOfCall& t : call.tensors) {
      t.dl.device = {kDLCPU, 0};
      CHECK(call.run(&call.on) == MOAT_BAD_ARGS);
      CHECK_THAT(moat_last_error(),
                 Contains(t.name + " must be on cuda:0 as the target is, got cpu:0"));
      t.dl.device = {kDLCUDA, 0};
    }
    if (!call.workspace) continue;
    size_t bytes = 0;
    REQUIRE(call.workspace(&call.on, &bytes) == MOAT_OK);
    if (bytes == 0) continue;
    call.on.workspace_bytes = bytes - 1;
    CHECK(call.run(&call.on) == MOAT_SMALL_WORKSPACE);
    const DeviceArray<char> scratch(bytes + 256);
    call.on.workspace = scratch.data() + 64;
    call.on.workspace_bytes = bytes;
    CHECK(call.run(&call.on) == MOAT_BAD_ARGS);
    CHECK_THAT(moat_last_error(), Contains("must be aligned to 256 bytes"));
  }
}

TEST_CASE("cuda: the C API tells its scratch memory before the tensors have any", "[cuda][c_api]") {
  const OwnedContext owned;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(owned.context);
    if (!call.workspace) continue;
    INFO(call.name);
    const OnDevice on_device(call);
    size_t bytes = 0, without_data = 1;
    REQUIRE(call.workspace(&call.on, &bytes) == MOAT_OK);
    for (TensorOfCall& t : call.tensors) t.dl.data = nullptr;
    CHECK(call.workspace(&call.on, &without_data) == MOAT_OK);
    CHECK(without_data == bytes);
  }
}

TEST_CASE("cuda: the C API says what is too large", "[cuda][c_api]") {
  const OwnedContext owned;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(owned.context);
    INFO(call.name);
    const bool sorts = call.name == "moat_routing_index";
    if (!sorts && call.name != "moat_topk_gate" && call.name != "moat_gate_losses") continue;
    const int64_t experts = (sorts ? 11264 : 4096) + 1;
    for (TensorOfCall& t : call.tensors) {
      for (int64_t& extent : t.shape)
        if (extent == 3) extent = experts;
      if (t.name == "offsets") t.shape[0] = experts + 1;
      t.memory.resize(t.bytes() / sizeof(double) + 1);
    }
    CHECK(OnDevice(call).run() == MOAT_UNSUPPORTED);
    CHECK_THAT(moat_last_error(), Contains("cannot run it in this size or number format"));
  }
}

}  // namespace moat::tests
