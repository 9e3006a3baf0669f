// The C API computes what the kernels compute, bit for bit: every tensor reaches its field.

#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "kernels/experts/expert_activation.h"
#include "kernels/experts/grouped_gemm.h"
#include "kernels/gate/gate_losses.h"
#include "kernels/gate/topk_gate.h"
#include "kernels/library/context.h"
#include "kernels/loss/softmax.h"
#include "kernels/routing/combine_rows.h"
#include "kernels/routing/dispatch_rows.h"
#include "kernels/routing/routing_index.h"
#include "kernels/update/ball_step.h"
#include "tests/c_api_calls.h"

namespace moat::tests {

using namespace kernels;

namespace {

// A legal call on normal draws, its results and those of the kernel itself.
class Comparison {
 public:
  explicit Comparison(const std::string& name) {
    REQUIRE(moat_context_create(&c_context_) == MOAT_OK);
    for (const auto& make : legal_calls())
      if (make(c_context_).name == name) call_ = make(c_context_);
    REQUIRE(call_.name == name);
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (TensorOfCall& t : call_.tensors)
      if (!t.is_written() && t.dl.dtype.code == kDLFloat)
        for (size_t i = 0; i < t.bytes() / (t.dl.dtype.bits / 8); ++i)
          t.dl.dtype.bits == 64 ? t.memory[i] = normal(engine) : t.floats()[i] = normal(engine);
    REQUIRE(call_.run(&call_.on) == MOAT_OK);
  }
  ~Comparison() { moat_context_destroy(c_context_); }
  Comparison(const Comparison&) = delete;
  Comparison& operator=(const Comparison&) = delete;

  const void* in(const char* name) { return call_.tensor(name).memory.data(); }
  const int32_t* indices(const char* name) { return call_.tensor(name).ints(); }
  // Where the kernel writes what is then compared with the call's result of this name.
  void* out(const char* name) {
    TensorOfCall& t = call_.tensor(name);
    REQUIRE(t.is_written());
    own_.push_back({name, std::vector<double>(t.memory.size())});
    return own_.back().memory.data();
  }
  int32_t* indices_out(const char* name) { return static_cast<int32_t*>(out(name)); }

  template <class Args>
  void equals(Status (*kernel)(Cpu, const Args&), const Args& args) {
    alignas(64) static char memory[1 << 26];  // enough for any number of threads
    REQUIRE(kernel({&context_, memory, sizeof memory}, args) == Status::ok);
    size_t results = 0;
    for (TensorOfCall& t : call_.tensors) results += t.is_written();
    REQUIRE(own_.size() == results);
    for (const Own& own : own_) {
      INFO(own.name);
      const TensorOfCall& t = call_.tensor(own.name);
      CHECK(std::memcmp(own.memory.data(), t.memory.data(), t.bytes()) == 0);
    }
  }

 private:
  struct Own {
    std::string name;
    std::vector<double> memory;
  };
  moat_context* c_context_ = nullptr;
  LegalCall call_;
  std::deque<Own> own_;
  Context context_;
};

}  // namespace

TEST_CASE("c_api: gates are the kernels'", "[c_api]") {
  Comparison gate("moat_topk_gate");
  gate.equals<TopkGate>(topk_gate,
                        {.logits = gate.in("logits"),
                         .bias = gate.in("bias"),
                         .weights = gate.out("weights"),
                         .experts = gate.indices_out("experts"),
                         .log_sum_exp = gate.out("log_sum_exp"),
                         .margin = gate.out("margin"),
                         .tokens = 5,
                         .num_experts = 3,
                         .k = 2,
                         .form = GateForm::sigmoid_topk,
                         .dtype = Dtype::f32,
                         .noise = {.deviation = 0.5, .samples = gate.indices("noise.samples")},
                         .noisy_logits = gate.out("noisy_logits")});
  Comparison grad("moat_topk_gate_grad");
  grad.equals<TopkGateGrad>(topk_gate_grad, {.logits = grad.in("logits"),
                                             .experts = grad.indices("experts"),
                                             .weights = grad.in("weights"),
                                             .d_weights = grad.in("d_weights"),
                                             .d_logits = grad.out("d_logits"),
                                             .tokens = 5,
                                             .num_experts = 3,
                                             .k = 2,
                                             .form = GateForm::softmax_topk,
                                             .dtype = Dtype::f32,
                                             .noisy_logits = grad.in("noisy_logits")});
}

TEST_CASE("c_api: gate losses are the kernels'", "[c_api]") {
  Comparison losses("moat_gate_losses");
  losses.equals<GateLosses>(gate_losses, {.logits = losses.in("logits"),
                                          .noisy_logits = losses.in("noisy_logits"),
                                          .experts = losses.indices("experts"),
                                          .losses = losses.out("losses"),
                                          .sums = static_cast<double*>(losses.out("sums")),
                                          .tokens = 5,
                                          .num_experts = 3,
                                          .k = 2,
                                          .deviation = 0.5,
                                          .dtype = Dtype::f32});
  Comparison grad("moat_gate_losses_grad");
  grad.equals<GateLossesGrad>(gate_losses_grad,
                              {.logits = grad.in("logits"),
                               .noisy_logits = grad.in("noisy_logits"),
                               .experts = grad.indices("experts"),
                               .sums = static_cast<const double*>(grad.in("sums")),
                               .d_losses = grad.in("d_losses"),
                               .d_logits = grad.out("d_logits"),
                               .tokens = 5,
                               .num_experts = 3,
                               .k = 2,
                               .deviation = 0.5,
                               .dtype = Dtype::f32});
}

TEST_CASE("c_api: rows are the kernels'", "[c_api]") {
  Comparison routing("moat_routing_index");
  routing.equals<RoutingIndex>(routing_index, {.experts = routing.indices("experts"),
                                               .priority = routing.in("priority"),
                                               .offsets = routing.indices_out("offsets"),
                                               .row_token = routing.indices_out("row_token"),
                                               .slot_of = routing.indices_out("slot_of"),
                                               .tokens = 5,
                                               .k = 2,
                                               .num_experts = 3,
                                               .capacity = 0,
                                               .priority_dtype = Dtype::f32});
  Comparison dispatch("moat_dispatch_rows");
  dispatch.equals<DispatchRows>(dispatch_rows, {.x = dispatch.in("x"),
                                                .row_token = dispatch.indices("row_token"),
                                                .y = dispatch.out("y"),
                                                .tokens = 5,
                                                .rows = 10,
                                                .width = 4,
                                                .dtype = Dtype::f32});
  Comparison combine("moat_combine_rows");
  combine.equals<CombineRows>(combine_rows, {.rows = combine.in("rows"),
                                             .weights = combine.in("weights"),
                                             .slot_of = combine.indices("slot_of"),
                                             .y = combine.out("y"),
                                             .tokens = 5,
                                             .k = 2,
                                             .row_count = 10,
                                             .width = 4,
                                             .dtype = Dtype::f32});
  Comparison grad("moat_combine_rows_grad");
  grad.equals<CombineRowsGrad>(combine_rows_grad, {.d_y = grad.in("d_y"),
                                                   .rows = grad.in("rows"),
                                                   .weights = grad.in("weights"),
                                                   .slot_of = grad.indices("slot_of"),
                                                   .d_rows = grad.out("d_rows"),
                                                   .d_weights = grad.out("d_weights"),
                                                   .tokens = 5,
                                                   .k = 2,
                                                   .row_count = 10,
                                                   .width = 4,
                                                   .dtype = Dtype::f32});
}

TEST_CASE("c_api: products are the kernels'", "[c_api]") {
  Comparison product("moat_grouped_gemm");
  product.equals<GroupedGemm>(grouped_gemm, {.x = product.in("x"),
                                             .row_token = product.indices("row_token"),
                                             .w = product.in("w"),
                                             .bias = product.in("bias"),
                                             .offsets = product.indices("offsets"),
                                             .y = product.out("y"),
                                             .rows = 10,
                                             .x_rows = 5,
                                             .experts = 3,
                                             .n = 6,
                                             .k = 4,
                                             .transpose_w = Transpose::yes,
                                             .dtype = Dtype::f32,
                                             .activation = ExpertActivation::swiglu,
                                             .pre = product.out("pre")});
  Comparison grad("moat_grouped_gemm_weight_grad");
  grad.equals<GroupedGemmWeightGrad>(grouped_gemm_weight_grad,
                                     {.x = grad.in("x"),
                                      .row_token = grad.indices("row_token"),
                                      .d_y = grad.in("d_y"),
                                      .offsets = grad.indices("offsets"),
                                      .d_w = grad.out("d_w"),
                                      .d_bias = grad.out("d_bias"),
                                      .rows = 10,
                                      .x_rows = 5,
                                      .experts = 3,
                                      .n = 6,
                                      .k = 4,
                                      .dtype = Dtype::f32});
}

TEST_CASE("c_api: activations are the kernels'", "[c_api]") {
  Comparison forward("moat_expert_activation");
  forward.equals<ApplyExpertActivation>(expert_activation, {.pre = forward.in("pre"),
                                                            .y = forward.out("y"),
                                                            .rows = 10,
                                                            .width = 6,
                                                            .activation = ExpertActivation::swiglu,
                                                            .dtype = Dtype::f32});
  Comparison grad("moat_expert_activation_grad");
  grad.equals<ExpertActivationGrad>(expert_activation_grad, {.d_y = grad.in("d_y"),
                                                             .pre = grad.in("pre"),
                                                             .d_pre = grad.out("d_pre"),
                                                             .rows = 10,
                                                             .width = 6,
                                                             .activation = ExpertActivation::swiglu,
                                                             .dtype = Dtype::f32});
}

TEST_CASE("c_api: softmax and attack steps are the kernels'", "[c_api]") {
  Comparison forward("moat_softmax");
  forward.equals<Softmax>(softmax, {.x = forward.in("x"),
                                    .y = forward.out("y"),
                                    .rows = 5,
                                    .columns = 4,
                                    .form = SoftmaxForm::softmax,
                                    .dtype = Dtype::f32});
  Comparison grad("moat_softmax_grad");
  grad.equals<SoftmaxGrad>(softmax_grad, {.y = grad.in("y"),
                                          .d_y = grad.in("d_y"),
                                          .d_x = grad.out("d_x"),
                                          .rows = 5,
                                          .columns = 4,
                                          .form = SoftmaxForm::softmax,
                                          .dtype = Dtype::f32});
  Comparison step("moat_ball_step");
  step.equals<BallStep>(ball_step, {.x = step.in("x"),
                                    .gradient = step.in("gradient"),
                                    .center = step.in("center"),
                                    .velocity = nullptr,
                                    .y = step.out("y"),
                                    .images = 5,
                                    .pixels = 4,
                                    .norm = Norm::linf,
                                    .eps = 0.1,
                                    .step = 0.05,
                                    .momentum = 0,
                                    .dtype = Dtype::f32});
}

}  // namespace moat::tests
