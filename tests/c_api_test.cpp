// The C API refuses every call outside its contract with a status and a line that says why, and
// leaves the results as they were. Each legal call is broken in every way, one at a time.

#include "kernels/c_api.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "tests/c_api_calls.h"

namespace moat::tests {

using Catch::Matchers::Contains;

namespace {

class ContextOwner {
 public:
  ContextOwner() { REQUIRE(moat_context_create(&context_) == MOAT_OK); }
  ~ContextOwner() { moat_context_destroy(context_); }
  ContextOwner(const ContextOwner&) = delete;
  ContextOwner& operator=(const ContextOwner&) = delete;
  operator moat_context*() const { return context_; }

 private:
  moat_context* context_ = nullptr;
};

// The call is refused with this status; the line names the function and `culprit`.
void refuses(const LegalCall& call, moat_status status, const std::string& culprit) {
  INFO(call.name << " said: " << moat_last_error());
  CHECK(call.run(&call.on) == status);
  CHECK_THAT(moat_last_error(), Contains(call.name + ": ") && Contains(culprit));
  CHECK(call.results_are_poisoned());
}

// A tensor with something wrong about it, as every function must find.
struct Break {
  const char* what;
  std::function<void(TensorOfCall&)> apply;
};

std::vector<Break> breaks() {
  const auto set = [](auto&& change) { return [change](TensorOfCall& t) { change(t.dl); }; };
  return {
      {"on CUDA", set([](DLTensor& t) { t.device.device_type = kDLCUDA; })},
      {"on another device", set([](DLTensor& t) { t.device.device_id = 1; })},
      {"of bytes", set([](DLTensor& t) {
         t.dtype = {kDLUInt, 8, 1};
       })},
      {"of float16", set([](DLTensor& t) {
         t.dtype = {kDLFloat, 16, 1};
       })},
      {"of vectors", set([](DLTensor& t) { t.dtype.lanes = 2; })},
      {"of negative rank", set([](DLTensor& t) { t.ndim = -1; })},
      {"of absurd rank", set([](DLTensor& t) { t.ndim = 1 << 20; })},
      {"without rank", set([](DLTensor& t) { t.ndim = 0; })},
      {"without shape", set([](DLTensor& t) { t.shape = nullptr; })},
      {"without data", set([](DLTensor& t) { t.data = nullptr; })},
      {"with a misaligned offset", set([](DLTensor& t) { t.byte_offset = 2; })},
      {"with an offset out of the world", set([](DLTensor& t) { t.byte_offset = ~uint64_t{7}; })},
      {"with a rank too many",
       [](TensorOfCall& t) {
         t.shape.push_back(1);
         t.dl.shape = t.shape.data();
         t.dl.ndim += 1;
       }},
      {"with a negative extent", [](TensorOfCall& t) { t.shape[0] = -1; }},
      {"with an enormous extent", [](TensorOfCall& t) { t.shape[0] = int64_t{1} << 40; }},
      {"with gaps",
       [](TensorOfCall& t) {
         t.strides.assign(t.shape.size(), 2);
         t.dl.strides = t.strides.data();
       }},
  };
}

// Extents that no other tensor of the call has, and that may be anything.
const std::set<std::string> kFreeExtents{
    "moat_routing_index offsets 0",      "moat_dispatch_rows x 0",
    "moat_combine_rows rows 0",          "moat_grouped_gemm x 0",
    "moat_grouped_gemm_weight_grad x 0", "moat_gate_losses experts 1",
    "moat_gate_losses_grad experts 1"};

template <class Apply>
void for_each_tensor(Apply&& apply) {
  const ContextOwner context;
  for (const auto& make : legal_calls()) {
    const size_t count = make(context).tensors.size();
    for (size_t i = 0; i < count; ++i) {
      LegalCall call = make(context);
      INFO(call.name << ", tensor " << call.tensors[i].name);
      apply(call, call.tensors[i]);
    }
  }
}

}  // namespace

TEST_CASE("c_api: legal calls run and write all of their results", "[c_api]") {
  const ContextOwner context;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(context);
    INFO(call.name);
    const moat_status status = call.run(&call.on);
    INFO(moat_last_error());
    CHECK(status == MOAT_OK);
    CHECK(std::string(moat_last_error()).empty());
    for (TensorOfCall& t : call.tensors) {
      if (!t.is_written()) continue;
      INFO(t.name);
      const size_t size = t.dl.dtype.bits / 8;
      for (size_t i = 0; i < t.bytes() / size; ++i) {
        if (t.dl.dtype.code == kDLInt)
          CHECK(t.ints()[i] >= 0);
        else
          CHECK_FALSE(std::isnan(size == 8 ? t.memory[i] : double{t.floats()[i]}));
      }
    }
  }
}

TEST_CASE("c_api: a tensor that breaks the contract is refused by its name", "[c_api]") {
  for (const Break& broken : breaks())
    for_each_tensor([&](LegalCall& call, TensorOfCall& t) {
      INFO(broken.what);
      broken.apply(t);
      refuses(call, MOAT_BAD_ARGS, t.name);
    });
}

TEST_CASE("c_api: a tensor that must be there is refused when it is NULL", "[c_api]") {
  for_each_tensor([&](LegalCall& call, TensorOfCall& t) {
    t.set_field(nullptr);
    if (!t.is_optional()) {
      // Without row_token a product reads x row by row, and that has another shape here.
      const bool is_gather = t.name == "row_token" && call.name.rfind("moat_grouped", 0) == 0;
      refuses(call, MOAT_BAD_ARGS, is_gather ? "[rows = 5, n" : t.name);
    } else {
      call.get_workspace();
      CHECK(call.run(&call.on) == MOAT_OK);
    }
  });
}

TEST_CASE("c_api: an extent that differs from the other tensors' is refused", "[c_api]") {
  for_each_tensor([](LegalCall& call, TensorOfCall& t) {
    for (size_t axis = 0; axis < t.shape.size(); ++axis) {
      if (kFreeExtents.count(call.name + " " + t.name + " " + std::to_string(axis))) continue;
      INFO("extent " << axis);
      t.shape[axis] += 1;
      refuses(call, MOAT_BAD_ARGS, "must be");
      t.shape[axis] -= 1;
    }
  });
}

TEST_CASE("c_api: an index outside its range is refused before anything is written", "[c_api]") {
  for_each_tensor([](LegalCall& call, TensorOfCall& t) {
    if (t.is_written() || t.dl.dtype.code != kDLInt) return;
    if (t.name == "noise.samples") return;  // any number is a sample's
    for (const size_t at : {size_t{0}, t.bytes() / 8, t.bytes() / 4 - 1})
      for (const int32_t index : {-2, 1000}) {
        const int32_t legal = std::exchange(t.ints()[at], index);
        INFO("element " << at << " is " << index);
        refuses(call, MOAT_BAD_ARGS, "must be");
        t.ints()[at] = legal;
      }
  });
}

TEST_CASE("c_api: results that overlap another tensor are refused", "[c_api]") {
  for_each_tensor([](LegalCall& call, TensorOfCall& t) {
    if (!t.is_written()) return;
    for (TensorOfCall& other : call.tensors) {
      if (&other == &t) continue;
      if (call.name == "moat_ball_step" && other.name == "x") continue;
      void* const own = other.dl.data;
      other.dl.data = t.dl.data;  // either way round
      INFO(other.name);
      refuses(call, MOAT_BAD_ARGS, "must not overlap");
      other.dl.data = own;
    }
    if (!call.workspace || call.on.workspace_bytes == 0) return;
    t.dl.data = call.on.workspace;
    CHECK(call.run(&call.on) == MOAT_BAD_ARGS);
    CHECK_THAT(moat_last_error(), Contains("target.workspace must not overlap " + t.name));
  });
}

TEST_CASE("c_api: ball_step may write to its input", "[c_api]") {
  const ContextOwner context;
  LegalCall call = legal_calls().back()(context);
  TensorOfCall &x = call.tensor("x"), &y = call.tensor("y");
  y.dl.data = x.dl.data;
  CHECK(call.run(&call.on) == MOAT_OK);
  y.dl.data = x.floats() + 1;
  CHECK(call.run(&call.on) == MOAT_BAD_ARGS);
}

TEST_CASE("c_api: a target that cannot be is refused", "[c_api]") {
  const ContextOwner context;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(context);
    INFO(call.name);
    CHECK(call.run(nullptr) == MOAT_BAD_ARGS);
    CHECK_THAT(moat_last_error(), Contains("target must not be NULL"));
    const moat_target legal = call.on;

    call.on.device.device_type = kDLVulkan;
    refuses(call, MOAT_BAD_ARGS, "must be a CPU (kDLCPU) or CUDA (kDLCUDA)");
    call.on = legal;
    call.on.stream = &call;
    refuses(call, MOAT_BAD_ARGS, "target.stream must be NULL on a CPU");
    call.on = legal;
    call.on.context = nullptr;
    CHECK(call.run(&call.on) == MOAT_OK);
  }
}

#ifndef MOAT_KERNELS_CUDA
TEST_CASE("c_api: a build without CUDA says so", "[c_api]") {
  const ContextOwner context;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(context);
    call.on.device = {kDLCUDA, 0};
    for (TensorOfCall& t : call.tensors) t.dl.device = call.on.device;
    refuses(call, MOAT_UNSUPPORTED, "cuda:0, and this build has no CUDA");
  }
}
#endif

TEST_CASE("c_api: scratch memory that will not do is refused", "[c_api]") {
  const ContextOwner context;
  int with_workspace = 0;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(context);
    if (!call.workspace) continue;
    CHECK(call.workspace(&call.on, nullptr) == MOAT_BAD_ARGS);
    CHECK_THAT(moat_last_error(), Contains(call.name + "_workspace: bytes must not be NULL"));
    const moat_target legal = call.on;
    if (legal.workspace_bytes == 0) continue;
    ++with_workspace;
    call.on.workspace_bytes -= 1;
    refuses(call, MOAT_SMALL_WORKSPACE,
            "at least " + std::to_string(legal.workspace_bytes) + " bytes, got " +
                std::to_string(legal.workspace_bytes - 1));
    call.on = legal;
    call.on.workspace = nullptr;
    refuses(call, MOAT_BAD_ARGS, "target.workspace must not be NULL");
    call.on.workspace = static_cast<char*>(legal.workspace) + 32;
    refuses(call, MOAT_BAD_ARGS, "target.workspace must be aligned to 64 bytes");
  }
  CHECK(with_workspace >= 5);
}

TEST_CASE("c_api: scratch memory can be asked for before the tensors have any", "[c_api]") {
  const ContextOwner context;
  for (const auto& make : legal_calls()) {
    LegalCall call = make(context);
    if (!call.workspace) continue;
    INFO(call.name);
    for (TensorOfCall& t : call.tensors) t.dl.data = nullptr;
    size_t bytes = 0;
    CHECK(call.workspace(&call.on, &bytes) == MOAT_OK);
    CHECK(bytes == call.on.workspace_bytes);
    call.tensors.back().shape[0] += 1;
    CHECK(call.workspace(&call.on, &bytes) == MOAT_BAD_ARGS);
    call.tensors.back().shape[0] -= 1;
    refuses(call, MOAT_BAD_ARGS, "data must not be NULL");
  }
}

TEST_CASE("c_api: arguments and contexts need to be there", "[c_api]") {
  const moat_target on{.device = {kDLCPU, 0},
                       .context = nullptr,
                       .stream = nullptr,
                       .workspace = nullptr,
                       .workspace_bytes = 0};
  CHECK(moat_softmax(&on, nullptr) == MOAT_BAD_ARGS);
  CHECK_THAT(moat_last_error(), Contains("moat_softmax: args must not be NULL"));
  CHECK(moat_context_create(nullptr) == MOAT_BAD_ARGS);
  CHECK_THAT(moat_last_error(), Contains("moat_context_create: context must not be NULL"));
  moat_context_destroy(nullptr);
}

}  // namespace moat::tests
