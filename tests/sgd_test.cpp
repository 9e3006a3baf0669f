#include "engine/optim/sgd.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/finite.h"
#include "kernels/update/sgd.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

// Two steps from w = 1 with gradients 0.5 and -0.25.
double after_two_steps(const SgdOptions& options, Dtype dtype) {
  const Tensor w = Tensor::full({1}, 1, dtype), v = Tensor::zeros({1}, dtype);
  sgd_step(w, Tensor::full({1}, 0.5, dtype), v, options);
  sgd_step(w, Tensor::full({1}, -0.25, dtype), v, options);
  return w.item();
}

}  // namespace

TEST_CASE("SGD follows the sequence worked out by hand", "[sgd]") {
  for (Dtype dtype : {Dtype::f64, Dtype::f32}) {
    const double within = dtype == Dtype::f64 ? 1e-14 : 1e-6;
    // 1 - .1·.5 = .95, .95 + .1·.25 = .975
    CHECK(after_two_steps({.lr = 0.1}, dtype) == Approx(0.975).epsilon(within));
    // v = .5, w = .95; v = .45 - .25 = .2, w = .93
    CHECK(after_two_steps({.lr = 0.1, .momentum = 0.9}, dtype) == Approx(0.93).epsilon(within));
    // g = .51, v = .51, w = .949; g = -.24051, v = .21849, w = .927151
    CHECK(after_two_steps({.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01}, dtype) ==
          Approx(0.927151).epsilon(within));
  }
}

TEST_CASE("SGD without momentum needs no velocity; gradients stay as they are", "[sgd]") {
  const Tensor w = Tensor::full({100000}, 1), d_w = Tensor::full({100000}, 2);
  sgd_step(w, d_w, {}, {.lr = 0.25, .weight_decay = 1});
  for (float v : w.to_vector<float>()) REQUIRE(v == 0.25f);
  for (float v : d_w.to_vector<float>()) REQUIRE(v == 2);
  sgd_step(Tensor::zeros({0}), Tensor::zeros({0}), Tensor::zeros({0}), {.momentum = 0.9});
}

TEST_CASE("a step gives the weights another version", "[sgd]") {
  const Tensor w = Tensor::zeros({2}), v = Tensor::zeros({2});
  const uint64_t before = w.version();
  sgd_step(w, Tensor::zeros({2}), v, {.momentum = 0.5});
  CHECK(w.version() != before);
}

TEST_CASE("a step that is skipped changes nothing", "[sgd]") {
  float w = 1, v = 2;
  const float d_w = 3;
  int64_t skip = int64_t{1} << 32;
  const auto step = [&] {
    kernels::Sgd a{};
    a.weights = &w;
    a.gradients = &d_w;
    a.velocity = &v;
    a.count = 1;
    a.lr = a.momentum = 0.5;
    a.dtype = Dtype::f32;
    a.skip = &skip;
    return kernels::sgd(kernels::Cpu{}, a);
  };
  REQUIRE(step() == kernels::Status::ok);
  CHECK(w == 1);
  CHECK(v == 2);
  skip = 0;
  REQUIRE(step() == kernels::Status::ok);
  CHECK(v == 4);
  CHECK(w == -1);
}

TEST_CASE("SGD says what must hold", "[sgd]") {
  const Tensor w = Tensor::zeros({2});
  CHECK_THROWS_WITH(
      sgd_step(w, Tensor::zeros({3}), {}, {}),
      "sgd_step: gradients must be contiguous float32 [2] like the weights, got float32 [3]");
  CHECK_THROWS_WITH(sgd_step(w, w, {}, {.momentum = 0.9}), Catch::Contains("velocity"));
}

TEST_CASE("non-finite values are counted and the first is found", "[finite]") {
  const double inf = std::numeric_limits<double>::infinity();
  for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const Tensor x = Tensor::full({300001}, 1e30, dtype);
    CHECK(count_nonfinite(x) == 0);
    x.sliced(0, 150000, 150003).fill(-inf);
    x.sliced(0, 300000, 300001).fill(std::nan(""));
    x.sliced(0, 149999, 150000).fill(std::nan(""));
    CHECK(find_nonfinite(x).to_vector<int64_t>() == std::vector<int64_t>{5, 149999});
  }
  CHECK(count_nonfinite(Tensor::zeros({0})) == 0);
  CHECK(count_nonfinite(Tensor::full({70000}, inf, Dtype::bf16)) == 70000);
  CHECK_THROWS_WITH(count_nonfinite(Tensor::zeros({1}, Dtype::i32)), Catch::Contains("floating"));
}

}  // namespace moat::tests
