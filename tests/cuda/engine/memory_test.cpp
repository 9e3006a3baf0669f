#include <catch2/catch.hpp>

#include "engine/cuda/runtime.h"
#include "engine/dispatch.h"
#include "engine/graph.h"
#include "engine/hardware.h"
#include "engine/ops/augment.h"
#include "engine/ops/count.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/keep_worst.h"
#include "engine/ops/norm.h"
#include "engine/ops/reduce.h"
#include "engine/optim/sgd.h"
#include "engine/tape.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;
using Catch::Contains;

namespace {
const Device kGpu{Device::cuda, 0};
}

TEST_CASE("gpu: tensors go there and back, strided ones too", "[gpu][memory]") {
  const Tensor x = randn({3, 4, 5}, 1);
  CHECK(x.to(kGpu).to(Device{}).to_vector<double>() == x.to_vector<double>());
  const Tensor turned = x.to(kGpu).permuted({2, 0, 1});
  CHECK(turned.to_vector<double>() == x.permuted({2, 0, 1}).contiguous().to_vector<double>());
  CHECK(turned.sliced(0, 1, 4).to_vector<double>() ==
        x.permuted({2, 0, 1}).sliced(0, 1, 4).contiguous().to_vector<double>());
  const Tensor to = Tensor::zeros({3, 4, 5}, Dtype::f32, kGpu);
  to.copy_from(x);  // another device and another format
  CHECK(to.to_vector<float>() == x.to(Dtype::f32).to_vector<float>());
  CHECK(Tensor::full({2}, 3, Dtype::i32, kGpu).to_vector<int32_t>() == std::vector<int32_t>{3, 3});
  CHECK(Tensor::from(std::vector<float>{1, 2}, {2}, kGpu).device() == kGpu);
}

TEST_CASE("gpu: operands must share a device", "[gpu][memory]") {
  const Tensor x = randn({2}, 1);
  const auto share = Contains("operands must share one device, got cuda:0 and cpu");
  CHECK_THROWS_WITH(add(x.to(kGpu), x), share);
  // What has no row in tests/cases; there every operand of every op is left on the CPU once.
  const Tensor ids = rand_ints({2}, 0, 3, 2), gpu_ids = ids.to(kGpu), gpu_x = x.to(kGpu);
  CHECK_THROWS_WITH(count_equal(gpu_ids, ids), share);
  const Tensor bytes = Tensor::zeros({2, 4, 4, 3}, Dtype::u8, kGpu),
               pixels = Tensor::zeros({2, 4, 4, 3}, Dtype::f32, kGpu);
  CHECK_THROWS_WITH(augment(bytes, ids, 255, {}, {.seed = 1}), share);
  CHECK_THROWS_WITH(
      augment(bytes, gpu_ids, 255, {.cutout = 1, .cutout_fill = Tensor::zeros({3})}, {.seed = 1}),
      share);
  CHECK_THROWS_WITH(mix_images(pixels, ids, gpu_ids, {.mixup = 1}, {.seed = 1}), share);
  CHECK_THROWS_WITH(mix_images(pixels, gpu_ids, ids, {.mixup = 1}, {.seed = 1}), share);
  CHECK_THROWS_WITH(sgd_step(gpu_x, gpu_x.clone(), x.clone(), {.lr = 1, .momentum = 0.5}, {}),
                    share);
  const Tensor points = Tensor::zeros({2, 3}, Dtype::f32, kGpu),
               loss = Tensor::zeros({2}, Dtype::f32, kGpu);
  CHECK_THROWS_WITH(keep_worst(worst_points(points), points, gpu_ids, gpu_ids, ids, loss, 0),
                    share);
  const Tensor channel = Tensor::zeros({3}, Dtype::f32, kGpu);
  CHECK_THROWS_WITH(batch_norm_train(points, channel, channel, channel.to(Device{}), channel, {},
                                     Activation::none),
                    share);
  Tape tape;
  const Tensor y = scale(tape.watch(gpu_x), 2);
  CHECK_THROWS_WITH(tape.gradients(y, x), share);
}

TEST_CASE("gpu: freed blocks are used again", "[gpu][memory]") {
  release_cached_memory(kGpu);
  const void* first = nullptr;
  {
    const Tensor x = Tensor::empty({1000}, Dtype::f32, kGpu);
    first = x.data();
  }
  CHECK(memory_use(kGpu).cached >= 4000);
  const Tensor y = Tensor::empty({1000}, Dtype::f32, kGpu);
  CHECK(y.data() == first);
  reset_peak_memory(kGpu);
  const size_t before = memory_use(kGpu).peak;
  { const Tensor z = Tensor::empty({5000}, Dtype::f32, kGpu); }
  CHECK(memory_use(kGpu).peak >= before + 20000);
}

TEST_CASE("gpu: too little memory is said with what would help", "[gpu][memory]") {
  const cuda::FreeMemory memory = cuda::free_memory(0);
  const auto too_much = static_cast<int64_t>(memory.total);
  CHECK_THROWS_WITH(Tensor::empty({too_much}, Dtype::f64, kGpu),
                    Contains("out of memory on cuda:0: asked for ") && Contains(" in use, ") &&
                        Contains(" kept for reuse and ") && Contains(" free; ") &&
                        Contains("train.batch"));
  CHECK(Tensor::zeros({4}, Dtype::f32, kGpu).to_vector<float>().size() == 4);  // and all goes on
}

TEST_CASE("gpu: a graph runs again on what its inputs hold by then", "[gpu][graph]") {
  const Tensor x = Tensor::full({4}, 2, Dtype::f32, kGpu);
  Tensor y;
  Graph graph(kGpu, make_memory_pool(kGpu), [&] { y = affine(square(x), 1, 1); });
  CHECK(graph.nodes() == 2);
  graph.launch();
  CHECK(y.to_vector<float>() == std::vector<float>(4, 5));
  x.fill(3);
  graph.launch();
  CHECK(y.to_vector<float>() == std::vector<float>(4, 10));
}

TEST_CASE("gpu: nothing is read on the host while a graph is recorded", "[gpu][graph]") {
  const Tensor x = Tensor::full({4}, 2, Dtype::f32, kGpu);
  const auto pool = make_memory_pool(kGpu);
  CHECK_THROWS_WITH(Graph(kGpu, pool, [&] { square(x).to_vector<float>(); }),
                    Contains("while a graph is recorded"));
  CHECK_THROWS_WITH(Graph(kGpu, pool, [&] { Tensor::from(std::vector<float>{1}, {1}, kGpu); }),
                    Contains("while a graph is recorded"));
  CHECK(square(x).to_vector<float>() == std::vector<float>(4, 4));  // the stream goes on
}

TEST_CASE("gpu: a graph's memory is its own", "[gpu][graph]") {
  const Tensor x = Tensor::full({1000}, 2, Dtype::f32, kGpu);
  Tensor sums;
  auto pool = make_memory_pool(kGpu);
  auto graph = std::make_unique<Graph>(kGpu, pool, [&] { sums = sum(square(x)); });
  // Were the recorded intermediate free for others, one of these would be overwritten.
  std::vector<Tensor> others;
  for (int i = 0; i < 8; ++i) others.push_back(Tensor::full({1000}, i, Dtype::f32, kGpu));
  graph->launch();
  CHECK(sums.item() == 4000);
  for (int i = 0; i < 8; ++i) CHECK(sum(others[size_t(i)]).item() == 1000 * i);
  const size_t live = memory_use(kGpu).live;
  sums = {};
  graph.reset();
  pool.reset();
  CHECK(memory_use(kGpu).live < live);
}

TEST_CASE("gpu: devices are named and counted", "[gpu][hardware]") {
  CHECK(gpu_count() >= 1);
  CHECK(parse_device("auto") == kGpu);
  CHECK(parse_device("cuda:0") == kGpu);
  CHECK_THROWS_WITH(parse_device("cuda:99"), Contains("numbered from cuda:0, got cuda:99"));
  CHECK_FALSE(cuda::properties(0).name.empty());
}

}  // namespace moat::tests
