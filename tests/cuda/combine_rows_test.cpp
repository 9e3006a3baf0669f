#include "kernels/routing/combine_rows.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Routing {
  int tokens, k, row_count;
  std::vector<int32_t> slot_of;
};

// Distinct slots of row_count rows in a scattered order; every third choice is dropped.
Routing scattered(int tokens, int k) {
  const int pairs = tokens * k, row_count = pairs + 2;
  Routing r{.tokens = tokens, .k = k, .row_count = row_count, .slot_of = {}};
  int stride = 1;
  for (int s : {17, 13, 7})
    if (stride == 1 && row_count % s) stride = s;
  for (int i = 0; i < pairs; ++i)
    r.slot_of.push_back(i % 3 == 2 ? -1 : static_cast<int32_t>(int64_t{i} * stride % row_count));
  return r;
}

// Values of T that start `offset` elements after a multiple of 256 bytes.
template <class T>
class Shifted {
 public:
  Shifted(std::vector<T> values, size_t offset)
      : array_((values.insert(values.begin(), offset, T(0)), values)), offset_(offset) {}
  Shifted(size_t count, size_t offset) : array_(count + offset), offset_(offset) {}
  T* data() const { return array_.data() + offset_; }
  std::vector<T> host() const {
    const std::vector<T> all = array_.host();
    return {all.begin() + static_cast<int64_t>(offset_), all.end()};
  }

 private:
  DeviceArray<T> array_;
  size_t offset_;
};

template <class T>
std::vector<double> absolute(const std::vector<T>& values) {
  std::vector<double> out = widened(values);
  for (double& x : out) x = std::abs(x);
  return out;
}

// The float64 reference. With absolute inputs it is the sum of |a||b| that bounds the error.
std::vector<double> combined(const Routing& r, int64_t width, const std::vector<double>& rows,
                             const std::vector<double>& weights) {
  std::vector<double> y(size_t(r.tokens) * size_t(width));
  REQUIRE(combine_rows(Cpu{}, {.rows = rows.data(),
                               .weights = weights.empty() ? nullptr : weights.data(),
                               .slot_of = r.slot_of.data(),
                               .y = y.data(),
                               .tokens = r.tokens,
                               .k = r.k,
                               .row_count = r.row_count,
                               .width = width,
                               .dtype = Dtype::f64}) == Status::ok);
  return y;
}

// |y - y64| <= u |y64| for the store + (terms + 1) u' sum |a||b|, u' of the compute type.
template <class T>
void require_close(const std::vector<T>& y, const std::vector<double>& reference,
                   const std::vector<double>& magnitude, double terms) {
  const std::vector<double> got = widened(y);
  REQUIRE(got.size() == reference.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i << ": " << got[i] << ", reference " << reference[i]);
    REQUIRE(std::abs(got[i] - reference[i]) <=
            1.01 * roundoff<T> * std::abs(reference[i]) +
                (terms + 1) * roundoff<compute_t<T>> * magnitude[i]);
  }
}

// How many elements after an aligned address each array starts.
struct Offsets {
  size_t rows = 0, y = 0, d_y = 0, d_rows = 0;
};

template <class T>
void check(const Routing& r, int64_t width, unsigned seed, Offsets offsets = {}) {
  using C = compute_t<T>;
  INFO(r.tokens << " tokens, k " << r.k << ", width " << width << ", offsets " << offsets.rows
                << offsets.y << offsets.d_y << offsets.d_rows);
  const size_t row_values = size_t(r.row_count) * size_t(width);
  const std::vector<T> rows = rounded<T>(normals(row_values, seed)),
                       d_y = rounded<T>(normals(size_t(r.tokens) * size_t(width), seed + 1));
  const std::vector<C> weights = rounded<C>(normals(r.slot_of.size(), seed + 2));
  const Shifted<T> device_rows(rows, offsets.rows), y(d_y.size(), offsets.y),
      device_d_y(d_y, offsets.d_y), d_rows(row_values, offsets.d_rows);
  const DeviceArray<C> device_weights(weights), d_weights(weights.size());
  const DeviceArray<int32_t> slot_of(r.slot_of);

  for (const bool weighted : {true, false}) {
    REQUIRE(run<CombineRows>(combine_rows, {.rows = device_rows.data(),
                                            .weights = weighted ? device_weights.data() : nullptr,
                                            .slot_of = slot_of.data(),
                                            .y = y.data(),
                                            .tokens = r.tokens,
                                            .k = r.k,
                                            .row_count = r.row_count,
                                            .width = width,
                                            .dtype = dtype_of<T>}) == Status::ok);
    const std::vector<C> used = weighted ? weights : std::vector<C>{};
    require_close(y.host(), combined(r, width, widened(rows), widened(used)),
                  combined(r, width, absolute(rows), absolute(used)), r.k);
  }

  CombineRowsGrad grad{.d_y = device_d_y.data(),
                       .rows = device_rows.data(),
                       .weights = device_weights.data(),
                       .slot_of = slot_of.data(),
                       .d_rows = d_rows.data(),
                       .d_weights = d_weights.data(),
                       .tokens = r.tokens,
                       .k = r.k,
                       .row_count = r.row_count,
                       .width = width,
                       .dtype = dtype_of<T>};
  REQUIRE(run<CombineRowsGrad>(combine_rows_grad, grad) == Status::ok);
  const std::vector<T> both_d_rows = d_rows.host();
  std::vector<T> want_d_rows(row_values);
  CombineRowsGrad cpu = grad;
  cpu.d_y = d_y.data();
  cpu.weights = weights.data();
  cpu.slot_of = r.slot_of.data();
  cpu.d_rows = want_d_rows.data();
  cpu.d_weights = nullptr;
  REQUIRE(combine_rows_grad(Cpu{}, cpu) == Status::ok);
  REQUIRE(widened(both_d_rows) == widened(want_d_rows));  // one product each: nothing to differ

  const auto products = [&](const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> sums(weights.size());
    for (size_t at = 0; at < sums.size(); ++at)
      for (size_t j = 0; r.slot_of[at] >= 0 && j < size_t(width); ++j)
        sums[at] +=
            a[at / size_t(r.k) * size_t(width) + j] * b[size_t(r.slot_of[at]) * size_t(width) + j];
    return sums;
  };
  const std::vector<C> both_d_weights = d_weights.host();
  require_close(both_d_weights, products(widened(d_y), widened(rows)),
                products(absolute(d_y), absolute(rows)), double(width));

  // Each result alone is the same, and d_rows without `rows`.
  const Shifted<T> alone(row_values, offsets.d_rows);
  const DeviceArray<C> weights_alone(weights.size());
  CombineRowsGrad only = grad;
  only.rows = nullptr;
  only.d_weights = nullptr;
  only.d_rows = alone.data();
  REQUIRE(run<CombineRowsGrad>(combine_rows_grad, only) == Status::ok);
  REQUIRE(widened(alone.host()) == widened(both_d_rows));
  only = grad;
  only.d_rows = nullptr;
  only.d_weights = weights_alone.data();
  REQUIRE(run<CombineRowsGrad>(combine_rows_grad, only) == Status::ok);
  REQUIRE(weights_alone.host() == both_d_weights);
}

template <class T>
std::vector<double> combine_on_device(const Routing& r, int64_t width,
                                      const std::vector<double>& rows,
                                      const std::vector<double>& weights) {
  const DeviceArray<T> device_rows(rounded<T>(rows)), y(size_t(r.tokens) * size_t(width));
  const DeviceArray<compute_t<T>> device_weights(rounded<compute_t<T>>(weights));
  const DeviceArray<int32_t> slot_of(r.slot_of);
  REQUIRE(run<CombineRows>(combine_rows, {.rows = device_rows.data(),
                                          .weights = device_weights.data(),
                                          .slot_of = slot_of.data(),
                                          .y = y.data(),
                                          .tokens = r.tokens,
                                          .k = r.k,
                                          .row_count = r.row_count,
                                          .width = width,
                                          .dtype = dtype_of<T>}) == Status::ok);
  return widened(y.host());
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: combine_rows and its gradient equal their float64 references",
                   "[cuda][combine_rows]", double, float, Bf16) {
  check<TestType>(scattered(5, 2), 24, 1);
  check<TestType>(scattered(9, 3), 7, 2);    // scalars, two blocks
  check<TestType>(scattered(3, 6), 264, 3);  // more choices than are under way at once
  // Rows of whole vectors, at addresses that are not multiples of 16.
  for (const Offsets offsets : {Offsets{.rows = 1}, {.y = 1}, {.d_y = 1}, {.d_rows = 1}})
    check<TestType>(scattered(2, 1), 16, 4, offsets);
  check<TestType>(scattered(5, 2), 80, 7, {.d_rows = 1});  // sums of several terms a lane
  check<TestType>(scattered(2, 9), 1, 5);
  check<TestType>(scattered(1, 1), 1100, 6);  // several stretches
}

TEST_CASE("cuda: combine_rows with empty extents", "[cuda][combine_rows]") {
  check<float>({.tokens = 0, .k = 2, .row_count = 3, .slot_of = {}}, 4, 1);
  check<float>({.tokens = 3, .k = 0, .row_count = 2, .slot_of = {}}, 4, 2);
  check<float>({.tokens = 2, .k = 1, .row_count = 2, .slot_of = {1, 0}}, 0, 3);
  check<float>({.tokens = 2, .k = 2, .row_count = 0, .slot_of = {-1, -1, -1, -1}}, 8, 4);
}

TEMPLATE_TEST_CASE("cuda: combine_rows is exact for small integers", "[cuda][combine_rows]", double,
                   float, Bf16) {
  const Routing r = scattered(6, 4);
  const std::vector<double> rows = integers<double>(size_t(r.row_count) * 16, 1, -5, 6),
                            weights = integers<double>(r.slot_of.size(), 2, -3, 4);
  CHECK(combine_on_device<TestType>(r, 16, rows, weights) == combined(r, 16, rows, weights));
}

TEST_CASE("cuda: combine_rows reads no row that no choice has", "[cuda][combine_rows]") {
  const Routing r = scattered(4, 3);
  std::vector<double> rows(size_t(r.row_count) * 8, std::nan(""));
  std::vector<double> weights = normals(r.slot_of.size(), 3);
  for (size_t at = 0; at < weights.size(); ++at) {
    if (r.slot_of[at] < 0)
      weights[at] = std::numeric_limits<double>::infinity();
    else
      std::fill_n(rows.begin() + int64_t{r.slot_of[at]} * 8, 8, 2.0);
  }
  for (double y : combine_on_device<float>(r, 8, rows, weights)) CHECK(std::isfinite(y));
}

TEST_CASE("cuda: a token's row does not depend on the batch", "[cuda][combine_rows]") {
  const Routing batch = scattered(7, 4);
  const std::vector<double> rows = normals(size_t(batch.row_count) * 72, 1),
                            weights = normals(batch.slot_of.size(), 2);
  const std::vector<double> all = combine_on_device<float>(batch, 72, rows, weights);
  CHECK(combine_on_device<float>(batch, 72, rows, weights) == all);
  for (int token = 0; token < 7; ++token) {
    const int64_t at = int64_t{token} * 4;
    Routing alone{.tokens = 1, .k = 4, .row_count = batch.row_count, .slot_of = {}};
    alone.slot_of.assign(batch.slot_of.begin() + at, batch.slot_of.begin() + at + 4);
    CHECK(combine_on_device<float>(alone, 72, rows,
                                   {weights.begin() + at, weights.begin() + at + 4}) ==
          std::vector<double>(all.begin() + int64_t{token} * 72,
                              all.begin() + int64_t{token + 1} * 72));
  }
}

TEST_CASE("cuda: combine_rows takes a slot that does not exist as dropped",
          "[cuda][combine_rows]") {
  const Routing odd{.tokens = 2, .k = 2, .row_count = 2, .slot_of = {1, 2, -5, 1 << 30}};
  CHECK(combine_on_device<float>(odd, 1, {3, 5}, {1, 1, 1, 1}) == std::vector<double>{5, 0});
  const DeviceArray<float> d_y(std::vector<float>{7, 11}), rows(std::vector<float>{3, 5}),
      d_rows(2), d_weights(4);
  const DeviceArray<int32_t> slot_of(odd.slot_of);
  REQUIRE(run<CombineRowsGrad>(combine_rows_grad, {.d_y = d_y.data(),
                                                   .rows = rows.data(),
                                                   .weights = nullptr,
                                                   .slot_of = slot_of.data(),
                                                   .d_rows = d_rows.data(),
                                                   .d_weights = d_weights.data(),
                                                   .tokens = 2,
                                                   .k = 2,
                                                   .row_count = 2,
                                                   .width = 1,
                                                   .dtype = Dtype::f32}) == Status::ok);
  CHECK(d_rows.host() == std::vector<float>{0, 7});
  CHECK(d_weights.host() == std::vector<float>{35, 0, 0, 0});
}

TEST_CASE("cuda: combine_rows refuses bad arguments before any launch", "[cuda][combine_rows]") {
  const auto refused = [](auto kernel, auto args, auto change) {
    change(args);
    return kernel(Cuda{}, args) == Status::bad_args;
  };
  const auto forward = [](Cuda on, const CombineRows& a) { return combine_rows(on, a); };
  const auto backward = [](Cuda on, const CombineRowsGrad& a) { return combine_rows_grad(on, a); };
  const auto check_all = [&](auto kernel, auto good) {
    CHECK(refused(kernel, good, [](auto& a) { a.tokens = -1; }));
    CHECK(refused(kernel, good, [](auto& a) { a.k = -1; }));
    CHECK(refused(kernel, good, [](auto& a) { a.row_count = -1; }));
    CHECK(refused(kernel, good, [](auto& a) { a.width = -1; }));
    good.dtype = Dtype::i32;
    CHECK(kernel(Cuda{}, good) == Status::unsupported);
  };
  CombineRows forward_args{};
  CombineRowsGrad backward_args{};
  forward_args.dtype = backward_args.dtype = Dtype::f32;
  check_all(forward, forward_args);
  check_all(backward, backward_args);
}

}  // namespace moat::tests
