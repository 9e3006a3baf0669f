#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "kernels/loss/dlr.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Tensor labels_of(const std::vector<int32_t>& labels) {
  return Tensor::from(labels, {static_cast<int64_t>(labels.size())});
}

// d sum(loss) / d logits.
template <class Loss>
std::vector<double> gradient_of(const Tensor& logits, Loss loss) {
  Tape tape;
  const Tensor z = tape.watch(logits);
  return tape.gradients(sum(loss(z))).of(z).to(Dtype::f64).template to_vector<double>();
}

struct RowResult {
  double value;
  std::vector<double> gradient;
};

// One row by the definition, from a full sort; target < 0: untargeted.
RowResult by_definition(const std::vector<double>& z, int label, int target) {
  std::vector<int> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return z[a] > z[b]; });
  const int other = target >= 0 ? target : order[0] == label ? order[1] : order[0];
  const double n = z[size_t(other)] - z[size_t(label)];
  const double third = z[size_t(order[2])],
               lower = target >= 0 ? (third + z[size_t(order[3])]) / 2 : third;
  const double d = z[size_t(order[0])] - lower + 1e-12;
  RowResult r{n / d, std::vector<double>(z.size(), 0)};
  r.gradient[size_t(other)] += 1 / d;
  r.gradient[size_t(label)] -= 1 / d;
  r.gradient[size_t(order[0])] -= n / (d * d);
  if (target < 0) {
    r.gradient[size_t(order[2])] += n / (d * d);
  } else {
    r.gradient[size_t(order[2])] += n / (d * d) / 2;
    r.gradient[size_t(order[3])] += n / (d * d) / 2;
  }
  return r;
}

// Every label and target of a row, in both number formats.
void check_row(const std::vector<double>& z) {
  const auto classes = static_cast<int>(z.size());
  for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
    const Tensor logits = Tensor::from(z, {1, classes}).to(dtype);
    const double tolerance = dtype == Dtype::f64 ? 1e-13 : 1e-6;
    for (int label = 0; label < classes; ++label)
      for (int target = classes < 4 ? -1 : classes - 1; target >= -1; --target) {
        INFO(name_of(dtype) << ", label " << label << ", target " << target);
        const Tensor y = labels_of({label}), t = labels_of({target});
        const auto loss = [&](const Tensor& x) {
          return target < 0 ? dlr(x, y) : targeted_dlr(x, y, t);
        };
        const RowResult want = by_definition(z, label, target);
        CHECK(loss(logits).item() == Approx(want.value).epsilon(tolerance).margin(1e-300));
        const auto got = gradient_of(logits, loss);
        for (size_t i = 0; i < z.size(); ++i)
          CHECK(got[i] == Approx(want.gradient[i]).epsilon(tolerance).margin(tolerance));
      }
  }
}

}  // namespace

TEST_CASE("dlr: the definition, for every label, target and tie", "[dlr]") {
  check_row({3, 1, 0});
  check_row({-2, 0.5, 7, 1});
  check_row({0.25, 4, -1, 2, 3.5, -0.5});
  check_row({1, 2, 2, 0, 2});     // three equal leaders
  check_row({5, 5, 1, 1, 1, 0});  // two pairs: of equals the lower index
  check_row({0, 1, 3, 3, 2, 2});
  check_row({-0.0, 0.0, -1, -3});
}

TEST_CASE("dlr: by hand", "[dlr]") {
  // Right, N = 1 - 3 and D = 3 - 0; wrong, N = 3 - 1 and the same D.
  const Tensor z = Tensor::from<double>({3, 1, 0, -4, 3, 1, 0, -4}, {2, 4});
  const auto values = dlr(z, labels_of({0, 1})).to_vector<double>();
  CHECK(values[0] == Approx(-2. / 3));
  CHECK(values[1] == Approx(2. / 3));
  const auto d = gradient_of(z, [&](const Tensor& x) { return dlr(x, labels_of({0, 1})); });
  CHECK(d[0] == Approx(-1. / 3 + 2. / 9));  // the label leads: in N and in D
  CHECK(d[1] == Approx(1. / 3));
  CHECK(d[2] == Approx(-2. / 9));
  CHECK(d[3] == 0);
  // Towards class 3: N = -4 - 3, D = 3 - (0 - 4) / 2.
  const Tensor one = z.sliced(0, 0, 1);
  CHECK(targeted_dlr(one, labels_of({0}), labels_of({3})).item() == Approx(-7. / 5));
  const auto t = gradient_of(
      one, [&](const Tensor& x) { return targeted_dlr(x, labels_of({0}), labels_of({3})); });
  CHECK(t[0] == Approx(-1. / 5 + 7. / 25));
  CHECK(t[1] == 0);
  CHECK(t[2] == Approx(-7. / 50));
  CHECK(t[3] == Approx(1. / 5 - 7. / 50));
}

// What it is for: a model may not hide its gradient in the size of its logits.
TEST_CASE("dlr: logits scaled and shifted have the same loss", "[dlr]") {
  const Tensor z = randn({50, 10}, 1), y = rand_ints({50}, 0, 10, 2), t = rand_ints({50}, 0, 10, 3);
  const auto plain = dlr(z, y).to_vector<double>(),
             aimed = targeted_dlr(z, y, t).to_vector<double>();
  for (double factor : {1e-4, 1e4}) {
    const Tensor moved = affine(z, factor, 7);
    const auto a = dlr(moved, y).to_vector<double>(),
               b = targeted_dlr(moved, y, t).to_vector<double>();
    for (size_t i = 0; i < 50; ++i) {
      CHECK(a[i] == Approx(plain[i]).epsilon(1e-5));
      CHECK(b[i] == Approx(aimed[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("dlr: NaN, infinities and all equal", "[dlr]") {
  const Tensor y = labels_of({0});
  for (const std::vector<float>& row :
       {std::vector<float>{1, kNan, 0, 2}, {kNan, 1, 2, 3}, {kInf, 1, 2, 3}}) {
    const Tensor z = Tensor::from(row, {1, 4});
    CHECK(std::isnan(dlr(z, y).item()));
    CHECK(std::isnan(targeted_dlr(z, y, labels_of({3})).item()));
  }
  const auto wild = gradient_of(Tensor::from<float>({1, 0, 2, kNan, -1}, {1, 5}),
                                [&](const Tensor& x) { return dlr(x, y); });
  CHECK(std::isnan(wild[0]));
  CHECK(std::isnan(wild[3]));
  CHECK(wild[1] == 0);
  CHECK(wild[4] == 0);
  // Classes that are excluded: as long as three are not.
  CHECK(dlr(Tensor::from<float>({3, 1, 0, -kInf}, {1, 4}), y).item() == Approx(-2. / 3));
  const Tensor flat = Tensor::full({1, 5}, 2.5);
  CHECK(dlr(flat, y).item() == 0);
  CHECK(targeted_dlr(flat, y, labels_of({3})).item() == 0);
  for (double d : gradient_of(flat, [&](const Tensor& x) { return dlr(x, y); }))
    CHECK(std::isfinite(d));
}

TEST_CASE("dlr: bfloat16 is the same, rounded once", "[dlr]") {
  using kernels::Bf16;
  const std::vector<double> z = {2, 0.5, -1, 1.25};
  std::vector<Bf16> narrow, d_narrow(4);
  for (double x : z) narrow.push_back(Bf16(static_cast<float>(x)));
  const int32_t label = 3, target = 1;
  const Bf16 one(1.0f);
  Bf16 value;
  for (const int32_t* aim : {static_cast<const int32_t*>(nullptr), &target}) {
    REQUIRE(kernels::dlr(kernels::Cpu{}, {narrow.data(), &label, aim, &value, 1, 4, Dtype::bf16}) ==
            kernels::Status::ok);
    REQUIRE(kernels::dlr_grad(kernels::Cpu{}, {narrow.data(), &label, aim, &one, d_narrow.data(), 1,
                                               4, Dtype::bf16}) == kernels::Status::ok);
    const RowResult want = by_definition(z, label, aim ? target : -1);
    CHECK(float(value) == Approx(want.value).epsilon(0.004));
    for (size_t i = 0; i < 4; ++i)
      CHECK(float(d_narrow[i]) == Approx(want.gradient[i]).epsilon(0.004));
  }
}

TEST_CASE("dlr: says what must hold", "[dlr]") {
  const Tensor two = Tensor::zeros({1, 2}), three = Tensor::zeros({1, 3}),
               four = Tensor::zeros({1, 4});
  const Tensor y = labels_of({0});
  CHECK_THROWS_WITH(dlr(two, y), "dlr: needs three classes or more, got logits [1, 2]");
  CHECK_THROWS_WITH(targeted_dlr(three, y, y),
                    "targeted_dlr: needs four classes or more, got logits [1, 3]");
  CHECK_THROWS_WITH(targeted_dlr(four, y, labels_of({4})),
                    "targeted_dlr: targets must be in [0, 4), got 4 in row 0");
  CHECK_THROWS_WITH(targeted_dlr(four, y, {}),
                    "targeted_dlr: targets must be int32 [1], got nothing");
  CHECK_THROWS_WITH(targeted_margin(two, y, labels_of({-1})),
                    "targeted_margin: targets must be in [0, 2), got -1 in row 0");
  CHECK_THROWS_WITH(dlr(four, labels_of({9})), "dlr: labels must be in [0, 4), got 9 in row 0");
  kernels::Dlr few{};
  few.rows = 1, few.classes = 2, few.dtype = Dtype::f32;
  CHECK(kernels::dlr(kernels::Cpu{}, few) == kernels::Status::bad_args);
}

}  // namespace moat::tests
