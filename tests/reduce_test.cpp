#include "engine/ops/reduce.h"

#include <omp.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "kernels/basic/gather_rows.h"
#include "kernels/basic/reduce.h"
#include "tests/op_case.h"

using namespace moat::engine;
using Catch::Matchers::Contains;
namespace kernels = moat::kernels;
using moat::tests::randn;

namespace {
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
}

TEST_CASE("max: ties go to the lowest index, the first NaN wins") {
  const Tensor x = Tensor::from<float>({1, 3, 3, 2,        //
                                        5, kNan, 7, kNan,  //
                                        kNan, 1, 1, 1},
                                       {3, 4});
  CHECK(argmax(x, 1).to_vector<int32_t>() == std::vector<int32_t>{1, 1, 0});
  CHECK(max(x, 1).to_vector<float>()[0] == 3);
  CHECK(std::isnan(max(x, 1).to_vector<float>()[1]));
  CHECK(std::isnan(max(x, -1).to_vector<float>()[2]));
  const Tensor low = Tensor::full({2, 3}, -std::numeric_limits<double>::infinity());
  CHECK(argmax(low, 1).to_vector<int32_t>() == std::vector<int32_t>{0, 0});

  Tape tape;
  const Tensor t = tape.watch(Tensor::from<float>({2, 2, 1}, {3}));
  CHECK(tape.gradients(max(t, 0)).of(t).to_vector<float>() == std::vector<float>{1, 0, 0});
}

TEST_CASE("sum: the same bits for every number of threads") {
  const Tensor x = randn({300007}).to(Dtype::f32), m = randn({5000, 40}).to(Dtype::f32);
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const double total = sum(x).item();
  const auto columns = sum(m, 0).to_vector<float>();
  for (int n : {2, 3, 5}) {
    omp_set_num_threads(n);
    CHECK(sum(x).item() == total);
    CHECK(sum(m, 0).to_vector<float>() == columns);
  }
  omp_set_num_threads(threads);
}

TEST_CASE("sum: ten million times 0.1 is a million to the last bit of a float") {
  const Tensor x = Tensor::full({10'000'000}, 0.1);
  CHECK(sum(x).item() == static_cast<float>(1e7 * static_cast<double>(0.1f)));
}

TEST_CASE("sum: of bfloat16 in float32, its gradient in bfloat16") {
  const Tensor x = Tensor::from<float>({256, 1, 1, 0.5, 2, 3}, {3, 2}).to(Dtype::bf16);
  Tape tape;
  const Tensor v = tape.watch(x), y = sum(v, 0, Dtype::f32);
  CHECK(y.to_vector<float>() == std::vector<float>{259, 4.5});  // 259 is no bfloat16
  const Tensor d = tape.gradients(y, Tensor::from<float>({1.5, 2}, {2})).of(v);
  CHECK(d.dtype() == Dtype::bf16);
  CHECK(d.to(Dtype::f32).to_vector<float>() == std::vector<float>{1.5, 2, 1.5, 2, 1.5, 2});
  CHECK_THROWS_WITH(sum(x, 0, Dtype::f64),
                    Contains("a bfloat16 tensor has sums in bfloat16 or float32"));
}

TEST_CASE("reduce: bad input is named") {
  CHECK_THROWS_WITH(sum(Tensor::zeros({2, 3}), 2), Contains("axis 2") && Contains("[2, 3]"));
  CHECK_THROWS_WITH(max(Tensor::zeros({2, 0}), 1), Contains("max: the axis must not be empty"));
  CHECK_THROWS_WITH(sum(Tensor::zeros({2}, Dtype::i32)), Contains("floating"));
  CHECK_THROWS_WITH(sum_to(Tensor::zeros({2, 3}), {2}), Contains("sum_to") && Contains("[2, 3]"));
  float value = 0;
  const kernels::SumAxis args{&value, &value, 1, 1'000'000, 1, Dtype::f32, Dtype::f32};
  CHECK(kernels::sum(kernels::Cpu{}, args) == kernels::Status::small_workspace);
}

TEST_CASE("gather_rows: an index out of range is refused by the op and by the kernel") {
  const Tensor x = Tensor::zeros({3, 2});
  for (int32_t bad : {-1, 3})
    CHECK_THROWS_WITH(gather_rows(x, Tensor::from<int32_t>({0, bad}, {2})),
                      Contains("[0, 3)") && Contains(std::to_string(bad)));
  CHECK_THROWS_WITH(gather_rows(x, Tensor::zeros({2})), Contains("int32"));
  const int32_t index = 3;
  float y[2];
  CHECK(kernels::gather_rows(kernels::Cpu{}, {x.data(), &index, y, 1, 3, 8}) ==
        kernels::Status::bad_args);
}

TEST_CASE("gather_rows: any dtype; the gradient adds in ascending order, unused rows get zero") {
  const Tensor labels = Tensor::from<uint8_t>({7, 8, 9}, {3});
  const Tensor index = Tensor::from<int32_t>({2, 0, 2}, {3});
  CHECK(gather_rows(labels, index).to_vector<uint8_t>() == std::vector<uint8_t>{9, 7, 9});

  Tape tape;
  const Tensor x = tape.watch(Tensor::zeros({3}));
  // In float32 (1e8 - 1e8) + 1 is 1, and the other way round (1 - 1e8) + 1e8 is 0.
  const Tensor seed = Tensor::from<float>({1e8f, -1e8f, 1}, {3});
  const Gradients grads =
      tape.gradients(gather_rows(x, Tensor::from<int32_t>({1, 1, 1}, {3})), seed);
  CHECK(grads.of(x).to_vector<float>() == std::vector<float>{0, 1, 0});
}

TEST_CASE("shape: bad input is named") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(concat({}, 0), Contains("at least one part"));
  CHECK_THROWS_WITH(concat({x, Tensor::zeros({3, 3})}, 1), Contains("[2, 3] and [3, 3]"));
  CHECK_THROWS_WITH(concat({x}, 2), Contains("axis 2"));
  CHECK_THROWS_WITH(slice(x, 1, 2, 4), Contains("[2, 4)"));
}

TEST_CASE("nhwc_from_nchw moves channels last and back") {
  const Tensor nchw = randn({2, 3, 4, 5}), nhwc = nhwc_from_nchw(nchw);
  CHECK(nhwc.shape() == Shape{2, 4, 5, 3});
  CHECK(moat::tests::f64(nhwc)[((1 * 4 + 2) * 5 + 3) * 3 + 1] ==
        moat::tests::f64(nchw)[((1 * 3 + 1) * 4 + 2) * 5 + 3]);
  CHECK(nchw_from_nhwc(nhwc).to_vector<double>() == nchw.to_vector<double>());
}

TEST_CASE("views of a variable that were not recorded are constants") {
  Tape tape;
  const Tensor x = tape.watch(Tensor::zeros({2, 3}));
  const NoTapeScope no_tape;
  for (const Tensor& y : {reshape(x, {6}), slice(x, 0, 0, 1), permute(x, {0, 1})})
    CHECK(y.var() == 0);
}
