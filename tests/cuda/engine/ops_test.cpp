#include <catch2/catch.hpp>

#include "engine/graph.h"
#include "engine/memory.h"
#include "engine/ops/moe.h"
#include "engine/ops/shape.h"
#include "engine/ops/vision.h"
#include "engine/tape.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

const Device kGpu{Device::cuda, 0};

void check_family(std::vector<OpCase> (*cases)(Scale)) {
  for (const OpCase& c : cases(Scale::test)) {
    INFO(c.name);
    check_op_on(kGpu, c);
  }
}

}  // namespace

TEST_CASE("gpu: elementwise ops equal the CPU's", "[gpu][ops]") { check_family(elementwise_cases); }
TEST_CASE("gpu: shape ops equal the CPU's", "[gpu][ops]") { check_family(shape_cases); }
TEST_CASE("gpu: reductions equal the CPU's", "[gpu][ops]") { check_family(reduce_cases); }
TEST_CASE("gpu: products equal the CPU's", "[gpu][ops]") { check_family(linalg_cases); }
TEST_CASE("gpu: convolutions and pools equal the CPU's", "[gpu][ops]") {
  check_family(vision_cases);
}
TEST_CASE("gpu: norms equal the CPU's", "[gpu][ops]") { check_family(norm_cases); }
TEST_CASE("gpu: attention equals the CPU's", "[gpu][ops]") { check_family(attention_cases); }
TEST_CASE("gpu: losses equal the CPU's", "[gpu][ops]") { check_family(loss_cases); }
TEST_CASE("gpu: grouped convolutions equal the CPU's", "[gpu][ops]") {
  check_family(grouped_conv_cases);
}
TEST_CASE("gpu: gates equal the CPU's", "[gpu][ops]") { check_family(moe_cases); }
TEST_CASE("gpu: routing equals the CPU's", "[gpu][ops]") { check_family(routing_cases); }
TEST_CASE("gpu: attack steps equal the CPU's", "[gpu][ops]") { check_family(ball_cases); }

TEST_CASE("gpu: nothing is launched behind a convolution that has nothing behind it",
          "[gpu][graph]") {
  const Tensor x = randn({2, 5, 5, 6}, 1).to(Dtype::f32).to(kGpu),
               filter = randn({6, 3, 3, 6}, 2).to(Dtype::f32).to(kGpu),
               bias = Tensor::zeros({6}, Dtype::f32, kGpu);
  const PackedConv2d packed = pack_conv2d(filter, bias, {1, 1}, 5, 5, Dtype::f32);
  const auto launches = [&](auto convolve) {
    convolve();  // a plan is made
    return Graph(kGpu, make_memory_pool(kGpu), convolve).nodes();
  };
  CHECK(launches([&] {
          conv2d(x, filter, {1, 1});
        }) <= launches([&] { conv2d_packed(x, packed, {}, Activation::relu); }));
}

TEST_CASE("gpu: the same logits give the same integers", "[gpu][ops]") {
  const Tensor scores = randn({37, 5}, 1).to(Dtype::f32);
  const Gate cpu = topk_gate(scores, 2, GateForm::softmax_topk),
             gpu = topk_gate(scores.to(kGpu), 2, GateForm::softmax_topk);
  CHECK(gpu.experts.to_vector<int32_t>() == cpu.experts.to_vector<int32_t>());
  const Tensor experts = rand_ints({37}, 0, 4, 2);
  const Segments a = sort_by_expert(experts, 4), b = sort_by_expert(experts.to(kGpu), 4);
  CHECK(b.order.to_vector<int32_t>() == a.order.to_vector<int32_t>());
  CHECK(b.inverse.to_vector<int32_t>() == a.inverse.to_vector<int32_t>());
  CHECK(b.offsets.to_vector<int32_t>() == a.offsets.to_vector<int32_t>());
}

TEST_CASE("gpu: draws are the CPU's, bit for bit", "[gpu][random]") {
  const Tensor ids = rand_ints({9}, 0, 1000, 3);
  const RandomKey key{.seed = 7, .purpose = Purpose::test, .iteration = 3, .stream = 2};
  const Shape shape{9, 5, 3, 3};
  CHECK(random_normal(shape, ids.to(kGpu), key, 0, 1).to_vector<float>() ==
        random_normal(shape, ids, key, 0, 1).to_vector<float>());
  CHECK(random_uniform(shape, ids.to(kGpu), key, -1, 2).to_vector<float>() ==
        random_uniform(shape, ids, key, -1, 2).to_vector<float>());
}

}  // namespace moat::tests
