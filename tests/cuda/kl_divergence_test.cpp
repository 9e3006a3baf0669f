#include "kernels/loss/kl_divergence.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
struct Batch {
  int rows, classes;
  std::vector<T> p, q, d_values;
};

template <class T>
struct Divergence {
  std::vector<T> values, d_p, d_q;
  bool operator==(const Divergence&) const = default;
};

template <class T>
Batch<T> random_batch(int rows, int classes, unsigned seed) {
  const size_t count = size_t(rows) * size_t(classes);
  return {.rows = rows,
          .classes = classes,
          .p = rounded<T>(normals(count, seed, 3)),
          .q = rounded<T>(normals(count, seed + 1, 3)),
          .d_values = rounded<T>(normals(size_t(rows), seed + 2))};
}

template <class T>
Divergence<T> on_device(const Batch<T>& in) {
  const DeviceArray<T> p(in.p), q(in.q), d(in.d_values), values(in.d_values.size()),
      d_p(in.p.size()), d_q(in.q.size());
  REQUIRE(run<KlDivergence>(kl_divergence, {p.data(), q.data(), values.data(), in.rows, in.classes,
                                            dtype_of<T>}) == Status::ok);
  REQUIRE(run<KlDivergenceGrad>(kl_divergence_grad,
                                {p.data(), q.data(), d.data(), d_p.data(), d_q.data(), in.rows,
                                 in.classes, dtype_of<T>}) == Status::ok);
  return {values.host(), d_p.host(), d_q.host()};
}

// The CPU in float64, from the same rounded numbers.
template <class T>
Divergence<double> reference(const Batch<T>& in) {
  const std::vector<double> p = widened(in.p), q = widened(in.q), d = widened(in.d_values);
  Divergence<double> out{std::vector<double>(d.size()), std::vector<double>(p.size()),
                         std::vector<double>(q.size())};
  REQUIRE(kl_divergence(Cpu{}, {p.data(), q.data(), out.values.data(), in.rows, in.classes,
                                Dtype::f64}) == Status::ok);
  REQUIRE(kl_divergence_grad(Cpu{}, {p.data(), q.data(), d.data(), out.d_p.data(), out.d_q.data(),
                                     in.rows, in.classes, Dtype::f64}) == Status::ok);
  return out;
}

// Sums of terms below about 20 run in float64 in another order than on the CPU; then one rounding
// to T.
template <class T>
void check(const Batch<T>& in) {
  INFO("[" << in.rows << ", " << in.classes << "]");
  const double tolerance = 2 * roundoff<T> + 32 * (in.classes + 4) * roundoff<double>;
  const Divergence<T> got = on_device(in);
  const Divergence<double> want = reference(in);
  require_close(widened(got.values), want.values, tolerance);
  require_close(widened(got.d_p), want.d_p, tolerance);
  require_close(widened(got.d_q), want.d_q, tolerance);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: kl_divergence equals its float64 reference", "[cuda][kl_divergence]",
                   double, float, Bf16) {
  for (const auto& [rows, classes] :
       {std::pair{3, 1}, {9, 10}, {1, 257}, {2, 512}, {3, 700}, {0, 4}})
    check(random_batch<TestType>(rows, classes, unsigned(classes)));
}

TEST_CASE("cuda: kl_divergence of large gaps is finite", "[cuda][kl_divergence]") {
  const Batch<float> in{.rows = 2,
                        .classes = 3,
                        .p = {1e5, 0, 0, 0, -1e5, 0},
                        .q = {0, 1e5, 0, -1e5, 0, 0},
                        .d_values = {1, 1}};
  check(in);
  const Divergence<float> got = on_device(in);
  CHECK(got.values[0] == 1e5f);
  for (float x : got.values) CHECK(std::isfinite(x));
  for (float x : got.d_p) CHECK(std::isfinite(x));
  for (float x : got.d_q) CHECK(std::isfinite(x));
}

TEST_CASE("cuda: kl_divergence of infinities and NaN", "[cuda][kl_divergence]") {
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  check<float>({.rows = 5,
                .classes = 3,
                .p = {-inf, 0, 1, 0, 0, 1, nan, 0, 1, 0, 1, 2, inf, 0, 0},
                .q = {0, 1, 2, -inf, 0, 1, 0, 1, 2, 0, nan, 1, 0, 0, 0},
                .d_values = {1, 1, 1, 1, 1}});
}

TEST_CASE("cuda: kl_divergence of equal rows is not negative", "[cuda][kl_divergence]") {
  Batch<double> in = random_batch<double>(20, 37, 8);
  in.q = in.p;
  for (double& q : in.q) q += 0.1;  // the same distribution, other roundings
  for (double x : on_device(in).values) CHECK((x >= 0 && x < 1e-13));
}

TEST_CASE("cuda: a row's kl_divergence depends neither on the batch nor on which gradients",
          "[cuda][kl_divergence]") {
  const Batch<float> batch = random_batch<float>(11, 13, 5);
  const Divergence<float> all = on_device(batch);
  CHECK(on_device(batch) == all);
  for (int64_t row = 0; row < 11; ++row) {
    const auto p = batch.p.begin() + row * 13, q = batch.q.begin() + row * 13;
    const Divergence<float> alone = on_device<float>({.rows = 1,
                                                      .classes = 13,
                                                      .p = {p, p + 13},
                                                      .q = {q, q + 13},
                                                      .d_values = {batch.d_values[size_t(row)]}});
    CHECK(alone.values[0] == all.values[size_t(row)]);
    CHECK(std::equal(alone.d_p.begin(), alone.d_p.end(), all.d_p.begin() + row * 13));
    CHECK(std::equal(alone.d_q.begin(), alone.d_q.end(), all.d_q.begin() + row * 13));
  }
  const DeviceArray<float> p(batch.p), q(batch.q), d(batch.d_values), d_p(batch.p.size()),
      d_q(batch.q.size());
  KlDivergenceGrad a{p.data(), q.data(), d.data(), d_p.data(), nullptr, 11, 13, Dtype::f32};
  REQUIRE(run<KlDivergenceGrad>(kl_divergence_grad, a) == Status::ok);
  CHECK(d_p.host() == all.d_p);
  a.d_p = nullptr;
  a.d_q = d_q.data();
  REQUIRE(run<KlDivergenceGrad>(kl_divergence_grad, a) == Status::ok);
  CHECK(d_q.host() == all.d_q);
}

TEST_CASE("cuda: kl_divergence refuses bad arguments before any launch", "[cuda][kl_divergence]") {
  CHECK(kl_divergence(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(kl_divergence(Cuda{}, {.rows = 1, .classes = 0, .dtype = Dtype::f32}) == Status::bad_args);
  CHECK(kl_divergence(Cuda{}, {.rows = 1, .classes = 2, .dtype = Dtype::i32}) ==
        Status::unsupported);
  CHECK(kl_divergence_grad(Cuda{}, {.rows = -1, .classes = 2, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(kl_divergence_grad(Cuda{}, {.rows = 1, .classes = 0, .dtype = Dtype::f32}) ==
        Status::bad_args);
}

}  // namespace moat::tests
