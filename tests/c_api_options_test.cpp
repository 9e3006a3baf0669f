// What the C API refuses beside its tensors: options, numbers and the contents of indices. And that
// its legal calls are the kernels' own.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/c_api_calls.h"

namespace moat::tests {

using Catch::Matchers::Contains;

namespace {

// A call with arguments of its own type, over tensors that it keeps.
class Tensors {
 public:
  DLTensor* operator()(DLDataType type, std::vector<int64_t> shape,
                       const std::vector<int32_t>& ints = {}) {
    Kept& kept = kept_.emplace_back();
    kept.shape = std::move(shape);
    size_t bytes = type.bits / 8;
    for (int64_t extent : kept.shape) bytes *= static_cast<size_t>(extent);
    kept.memory.resize(bytes / sizeof(double) + 1);
    std::copy(ints.begin(), ints.end(), reinterpret_cast<int32_t*>(kept.memory.data()));
    kept.dl = {kept.memory.data(),
               {kDLCPU, 0},
               static_cast<int>(kept.shape.size()),
               type,
               kept.shape.data(),
               nullptr,
               0};
    return &kept.dl;
  }

 private:
  struct Kept {
    DLTensor dl;
    std::vector<int64_t> shape;
    std::vector<double> memory;
  };
  std::deque<Kept> kept_;
};

// Scratch memory for any number of threads.
alignas(64) char scratch[1 << 26];

struct Where {
  Where() {
    REQUIRE(moat_context_create(&on.context) == MOAT_OK);
    on.device = {kDLCPU, 0};
    on.workspace = scratch;
    on.workspace_bytes = sizeof scratch;
  }
  ~Where() { moat_context_destroy(on.context); }
  moat_target on{};
};

template <class Args, class Change>
void refuses(moat_status (*run)(const moat_target*, const Args*), Args args, Change&& change,
             const char* why) {
  const Where where;
  INFO(why);
  CHECK(run(&where.on, &args) == MOAT_OK);
  INFO(moat_last_error());
  change(args);
  CHECK(run(&where.on, &args) == MOAT_BAD_ARGS);
  CHECK_THAT(moat_last_error(), Contains(why));
}

template <class Enum>
Enum beyond(int value) {
  return static_cast<Enum>(value);
}

}  // namespace

TEST_CASE("c_api: gates that cannot be are refused", "[c_api]") {
  Tensors make;
  const auto gate = [&](int64_t experts, int64_t k) {
    return moat_topk_gate_args{.logits = make(kFloat32, {4, experts}),
                               .bias = nullptr,
                               .weights = make(kFloat32, {4, k}),
                               .experts = make(kInt32, {4, k}),
                               .log_sum_exp = make(kFloat32, {4}),
                               .margin = make(kFloat32, {4}),
                               .noisy_logits = nullptr,
                               .form = MOAT_SOFTMAX_TOPK,
                               .noise = {},
                               .groups = {}};
  };
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_topk_gate, gate(6, 2), change, why);
  };
  says([&](auto& a) { a = gate(6, 7); }, "k must be in [1, experts = 6], got 7");
  says([&](auto& a) { a = gate(6, 0); }, "k must be in [1, experts = 6], got 0");
  says([&](auto& a) { a.form = beyond<moat_gate_form>(4); }, "form must be in [0, 4), got 4");
  says([&](auto& a) { a.form = beyond<moat_gate_form>(-1); }, "form must be in [0, 4), got -1");
  says([&](auto& a) { a.bias = make(kFloat32, {6}); }, "bias must be NULL unless form is");
  says([](auto& a) { a.noise.deviation = -1; }, "noise.deviation must be finite and at least 0");
  says([](auto& a) { a.noise.deviation = NAN; }, "noise.deviation must be finite");
  says(
      [](auto& a) {
        a.noise = {.deviation = 1,
                   .samples = nullptr,
                   .seed = 0,
                   .iteration = 0,
                   .purpose = 256,
                   .stream = 0};
      },
      "noise.purpose must be below 2^8");
  says([](auto& a) { a.groups.count = 4; }, "groups.count must divide experts = 6");
  says([](auto& a) { a.groups = {3, 4, MOAT_LARGEST}; }, "groups.kept be in [1, groups.count]");
  says([](auto& a) { a.groups = {6, 1, MOAT_LARGEST}; }, "k = 2 experts must fit into the kept");
  says(
      [](auto& a) {
        a.groups = {3, 1, beyond<moat_group_score>(2)};
      },
      "groups.score must be in [0, 2)");

  refuses(
      moat_topk_gate_grad,
      moat_topk_gate_grad_args{.logits = make(kFloat32, {2, 3}),
                               .noisy_logits = nullptr,
                               .experts = make(kInt32, {2, 2}, {0, 1, 1, 2}),
                               .weights = make(kFloat32, {2, 2}),
                               .d_weights = make(kFloat32, {2, 2}),
                               .d_logits = make(kFloat32, {2, 3}),
                               .form = MOAT_TOPK_SOFTMAX},
      [&](auto& a) {
        a.experts = make(kInt32, {2, 2}, {0, 1, 1, 3});
      },
      "experts must be in [0, 3)");
}

TEST_CASE("c_api: gate losses that cannot be are refused", "[c_api]") {
  Tensors make;
  const moat_gate_losses_args losses{.logits = make(kBfloat16, {2, 3}),
                                     .noisy_logits = make(kFloat32, {2, 3}),
                                     .experts = make(kInt32, {2, 2}, {0, 1, 1, 2}),
                                     .losses = make(kFloat32, {4}),
                                     .sums = make(kFloat64, {4, 3}),
                                     .deviation = 1};
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_gate_losses, losses, change, why);
  };
  says([](auto& a) { a.deviation = 0; }, "deviation must be finite and above 0");
  says([](auto& a) { a.deviation = NAN; }, "deviation must be finite and above 0");
  says([&](auto& a) { a.losses = make(kFloat32, {3}); },
       "losses must be float32 [losses = 4], got");
  says(
      [&](auto& a) {
        a.sums = make(kFloat32, {4, 3});
      },
      "sums must be float64 [sums = 4, experts");
  says([&](auto& a) { a.experts = make(kInt32, {2, 4}); }, "k must be in [1, experts = 3], got 4");
  says(
      [&](auto& a) {
        a.experts = make(kInt32, {2, 2}, {0, 1, 1, 3});
      },
      "experts must be in [0, 3)");
}

TEST_CASE("c_api: indices outside their range are refused", "[c_api]") {
  Tensors make;
  const moat_routing_index_args routing{.experts = make(kInt32, {2, 2}, {0, 1, 1, 0}),
                                        .priority = nullptr,
                                        .offsets = make(kInt32, {3}),
                                        .row_token = make(kInt32, {4}),
                                        .slot_of = make(kInt32, {2, 2}),
                                        .capacity = 0};
  const auto routes = [&](auto&& change, const char* why) {
    refuses(moat_routing_index, routing, change, why);
  };
  routes(
      [&](auto& a) {
        a.experts = make(kInt32, {2, 2}, {0, 1, 2, 0});
      },
      "experts must be in [0, 2)");
  routes(
      [&](auto& a) {
        a.experts = make(kInt32, {2, 2}, {0, -1, 1, 0});
      },
      "experts must be in [0, 2)");
  routes([&](auto& a) { a.offsets = make(kInt32, {1}); }, "offsets must be of at least one expert");
  routes([](auto& a) { a.capacity = -1; }, "capacity must be at least 0 (unlimited), got -1");

  refuses(
      moat_dispatch_rows,
      moat_dispatch_rows_args{.x = make(kFloat32, {2, 3}),
                              .row_token = make(kInt32, {2}, {1, -1}),
                              .y = make(kFloat32, {2, 3})},
      [&](auto& a) {
        a.row_token = make(kInt32, {2}, {2, 0});
      },
      "row_token must be in [-1, 2)");
  refuses(
      moat_combine_rows,
      moat_combine_rows_args{.rows = make(kFloat64, {4, 3}),
                             .weights = make(kFloat64, {2, 2}),
                             .slot_of = make(kInt32, {2, 2}, {0, 1, 2, -1}),
                             .y = make(kFloat64, {2, 3})},
      [&](auto& a) {
        a.slot_of = make(kInt32, {2, 2}, {0, 1, 2, 4});
      },
      "slot_of must be in [-1, 4)");
  refuses(
      moat_combine_rows_grad,
      moat_combine_rows_grad_args{.d_y = make(kBfloat16, {2, 3}),
                                  .rows = make(kBfloat16, {4, 3}),
                                  .weights = make(kFloat32, {2, 2}),
                                  .slot_of = make(kInt32, {2, 2}, {0, 1, 2, -1}),
                                  .d_rows = make(kBfloat16, {4, 3}),
                                  .d_weights = make(kFloat32, {2, 2})},
      [&](auto& a) {
        a.slot_of = make(kInt32, {2, 2}, {0, 1, -2, 3});
      },
      "slot_of must be in [-1, 4)");
}

TEST_CASE("c_api: products that cannot be are refused", "[c_api]") {
  Tensors make;
  const moat_grouped_gemm_args product{.x = make(kFloat32, {4, 3}),
                                       .row_token = nullptr,
                                       .w = make(kFloat32, {2, 3, 6}),
                                       .bias = nullptr,
                                       .offsets = make(kInt32, {3}, {0, 1, 4}),
                                       .y = make(kFloat32, {4, 6}),
                                       .pre = nullptr,
                                       .transpose_w = MOAT_AS_IS,
                                       .activation = MOAT_NO_ACTIVATION,
                                       .precision = MOAT_FLOAT32};
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_grouped_gemm, product, change, why);
  };
  says([](auto& a) { a.transpose_w = MOAT_TRANSPOSED; },
       "w must be float32 [experts = 2, n, k = 3");
  says([](auto& a) { a.transpose_w = beyond<moat_transpose>(2); }, "transpose_w must be in [0, 2)");
  says([](auto& a) { a.precision = beyond<moat_precision>(2); }, "precision must be in [0, 2)");
  says([](auto& a) { a.activation = beyond<moat_activation>(5); }, "activation must be in [0, 5)");
  says([](auto& a) { a.activation = MOAT_SWIGLU; }, "y must be float32 [rows = 4, n / 2 = 3]");
  for (const auto& offsets : {std::vector<int32_t>{1, 1, 4}, {0, 3, 2}, {0, 1, 5}})
    says([&](auto& a) { a.offsets = make(kInt32, {3}, offsets); }, "offsets must ascend from 0");
  says(
      [&](auto& a) {
        a.row_token = make(kInt32, {4}, {0, 1, 4, 0});
      },
      "row_token of an expert's rows must be in [0, x_rows)");
  says([&](auto& a) { a.bias = make(kFloat64, {2, 6}); }, "bias must be float32 [experts = 2, n");

  refuses(
      moat_expert_activation,
      moat_expert_activation_args{
          .pre = make(kFloat32, {2, 5}), .y = make(kFloat32, {2, 5}), .activation = MOAT_GELU},
      [](auto& a) { a.activation = MOAT_SWIGLU; }, "width must be even for MOAT_SWIGLU, got 5");
  refuses(
      moat_softmax,
      moat_softmax_args{
          .x = make(kBfloat16, {2, 5}), .y = make(kBfloat16, {2, 5}), .form = MOAT_LOG_SOFTMAX},
      [](auto& a) { a.form = beyond<moat_softmax_form>(2); }, "form must be in [0, 2), got 2");
}

TEST_CASE("c_api: attack steps that cannot be are refused", "[c_api]") {
  Tensors make;
  const moat_ball_step_args step{.x = make(kFloat64, {2, 3}),
                                 .gradient = make(kFloat64, {2, 3}),
                                 .center = make(kFloat64, {2, 3}),
                                 .velocity = make(kFloat64, {2, 3}),
                                 .y = make(kFloat64, {2, 3}),
                                 .norm = MOAT_L2,
                                 .eps = 0.1,
                                 .step = 0.1,
                                 .momentum = 0.9};
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_ball_step, step, change, why);
  };
  says([](auto& a) { a.eps = -0.1; }, "eps must be finite and at least 0, got -0.1");
  says([](auto& a) { a.eps = INFINITY; }, "eps must be finite");
  says([](auto& a) { a.step = NAN; }, "step must be finite");
  says([](auto& a) { a.momentum = NAN; }, "momentum must be finite");
  says([](auto& a) { a.norm = beyond<moat_norm>(2); }, "norm must be in [0, 2)");
  says([](auto& a) { a.gradient = nullptr; }, "velocity must be NULL where gradient is");
  says([&](auto& a) { a.x = make(kBfloat16, {2, 3}); }, "x must be float32 or float64, got bfloat");
}

TEST_CASE("c_api: layers that cannot be are refused", "[c_api]") {
  Tensors make;
  const auto layer = [&](int64_t k, DLDataType gate) {
    return moat_moe_layer_args{.x = make(kFloat32, {4, 3}),
                               .logits = make(gate, {4, 2}),
                               .gate_bias = nullptr,
                               .priority = nullptr,
                               .w_in = make(kFloat32, {2, 5, 3}),
                               .b_in = nullptr,
                               .w_out = make(kFloat32, {2, 3, 5}),
                               .b_out = nullptr,
                               .y = make(kFloat32, {4, 3}),
                               .weights = make(kFloat32, {4, k}),
                               .experts = make(kInt32, {4, k}),
                               .log_sum_exp = make(kFloat32, {4}),
                               .margin = make(kFloat32, {4}),
                               .noisy_logits = nullptr,
                               .offsets = make(kInt32, {3}),
                               .row_token = make(kInt32, {4 * k}),
                               .slot_of = make(kInt32, {4, k}),
                               .pre = nullptr,
                               .rows = nullptr,
                               .capacity = 0,
                               .form = MOAT_SOFTMAX_TOPK,
                               .noise = {},
                               .groups = {},
                               .activation = MOAT_RELU,
                               .precision = MOAT_FLOAT32};
  };
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_moe_layer, layer(2, kFloat32), change, why);
  };
  says([&](auto& a) { a = layer(3, kFloat32); }, "k must be in [1, experts = 2], got 3");
  says([&](auto& a) { a = layer(2, kFloat64); }, "logits must be float64 where the other");
  says([](auto& a) { a.capacity = -1; }, "capacity must be at least 0");
  says([](auto& a) { a.activation = MOAT_SWIGLU; }, "inner must be even for MOAT_SWIGLU, got 5");
  says([](auto& a) { a.groups.count = -1; }, "groups.count must divide experts");
}

TEST_CASE("c_api: gradients of a layer without their inputs are refused", "[c_api]") {
  Tensors make;
  moat_moe_layer_grad_args grad{};
  grad.d_y = make(kFloat32, {2, 3});
  grad.weights = make(kFloat32, {2, 1});
  grad.offsets = make(kInt32, {3}, {0, 1, 2});
  grad.slot_of = make(kInt32, {2, 1}, {0, 1});
  grad.activation = MOAT_RELU;
  const auto says = [&](auto&& change, const char* why) {
    refuses(moat_moe_layer_grad, grad, change, why);
  };
  says([&](auto& a) { a.d_b_in = make(kFloat32, {2, 5}); }, "d_b_in comes with d_w_in");
  says([&](auto& a) { a.d_b_out = make(kFloat32, {2, 3}); }, "d_b_out comes with d_w_out");
  says([&](auto& a) { a.d_logits = make(kFloat32, {2, 2}); }, "logits must not be NULL");
  says([&](auto& a) { a.d_x = make(kFloat32, {2, 4}); }, "pre must not be NULL");
  says([&](auto& a) { a.d_w_out = make(kFloat32, {2, 3, 5}); }, "pre must not be NULL");

  grad.pre = make(kFloat32, {2, 5});
  grad.w_in = make(kFloat32, {2, 5, 4});
  grad.w_out = make(kFloat32, {2, 3, 5});
  grad.d_x = make(kFloat32, {2, 4});
  says([&](auto& a) { a.slot_of = make(kInt32, {2, 1}, {0, 2}); }, "slot_of must be what");
  says([&](auto& a) { a.d_w_in = make(kFloat32, {2, 5, 4}); }, "x must not be NULL");
}

}  // namespace moat::tests
