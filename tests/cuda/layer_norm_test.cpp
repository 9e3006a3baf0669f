#include "kernels/vision/layer_norm.h"

#include <array>
#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

enum class Affine { no, yes };
enum class Added { no, yes };
constexpr double kEpsilon = 1e-3;

// Everything that the kernels write.
template <class T>
struct Results {
  std::vector<T> y, d_x;
  std::vector<compute_t<T>> mean, inv_std, d_gamma, d_beta;
};

using tests::same_bits;  // which the overload would hide
template <class T>
bool same_bits(const Results<T>& a, const Results<T>& b) {
  return same_bits(a.y, b.y) && same_bits(a.d_x, b.d_x) && same_bits(a.mean, b.mean) &&
         same_bits(a.inv_std, b.inv_std) && same_bits(a.d_gamma, b.d_gamma) &&
         same_bits(a.d_beta, b.d_beta);
}

template <class T>
struct Operands {
  std::vector<T> x, d_y, added;  // the last one empty unless asked for
  std::vector<compute_t<T>> gamma, beta;
  int rows, width;
  Affine affine;

  Operands(int num_rows, int row_width, Affine with, Added beside = Added::no)
      : rows(num_rows), width(row_width), affine(with) {
    using C = compute_t<T>;
    const auto count = size_t(rows) * size_t(width), w = size_t(width);
    std::vector<double> values = normals(count, 1, 2);
    for (double& v : values) v += 3;
    x = rounded<T>(values);
    d_y = rounded<T>(normals(count, 2));
    if (beside == Added::yes) added = rounded<T>(normals(count, 5));
    gamma = rounded<C>(normals(w, 3));
    beta = rounded<C>(normals(w, 4));
  }
};

// Bit i of `shifted`: array i lies one value behind an aligned address.
template <class T>
Results<T> on_device(const Operands<T>& in, unsigned shifted = 0) {
  using C = compute_t<T>;
  const auto shift = [&](int i) { return size_t(shifted >> i & 1); };
  const bool affine = in.affine == Affine::yes;
  const size_t rows = size_t(in.rows), width = size_t(in.width);
  const ShiftedArray<T> x(in.x, shift(0)), y(in.x.size(), shift(1)), d_y(in.d_y, shift(2)),
      d_x(in.x.size(), shift(3)), added(in.added, shift(6));
  const ShiftedArray<C> gamma(in.gamma, shift(4)), beta(in.beta, shift(5));
  const DeviceArray<C> mean(rows), inv_std(rows), d_gamma(width), d_beta(width);
  REQUIRE(run<LayerNorm>(layer_norm, {.x = x.data(),
                                      .gamma = affine ? gamma.data() : nullptr,
                                      .beta = affine ? beta.data() : nullptr,
                                      .y = y.data(),
                                      .mean = mean.data(),
                                      .inv_std = inv_std.data(),
                                      .rows = in.rows,
                                      .width = in.width,
                                      .epsilon = kEpsilon,
                                      .dtype = dtype_of<T>}) == Status::ok);
  const LayerNormGrad args{.d_y = d_y.data(),
                           .x = x.data(),
                           .gamma = affine ? gamma.data() : nullptr,
                           .mean = mean.data(),
                           .inv_std = inv_std.data(),
                           .added = in.added.empty() ? nullptr : added.data(),
                           .d_x = d_x.data(),
                           .d_gamma = d_gamma.data(),
                           .d_beta = d_beta.data(),
                           .rows = in.rows,
                           .width = in.width,
                           .dtype = dtype_of<T>};
  REQUIRE(run<LayerNormGrad>(layer_norm_grad, args, layer_norm_grad_workspace(Cuda{}, args)) ==
          Status::ok);
  return {y.host(), d_x.host(), mean.host(), inv_std.host(), d_gamma.host(), d_beta.host()};
}

template <class T>
Results<double> reference(const Operands<T>& in) {
  const std::vector<double> x = widened(in.x), d_y = widened(in.d_y), gamma = widened(in.gamma),
                            beta = widened(in.beta), added = widened(in.added);
  const bool affine = in.affine == Affine::yes;
  Results<double> out;
  out.y.resize(x.size()), out.d_x.resize(x.size());
  out.mean.resize(size_t(in.rows)), out.inv_std.resize(size_t(in.rows));
  out.d_gamma.resize(size_t(in.width)), out.d_beta.resize(size_t(in.width));
  REQUIRE(layer_norm(Cpu{}, {.x = x.data(),
                             .gamma = affine ? gamma.data() : nullptr,
                             .beta = affine ? beta.data() : nullptr,
                             .y = out.y.data(),
                             .mean = out.mean.data(),
                             .inv_std = out.inv_std.data(),
                             .rows = in.rows,
                             .width = in.width,
                             .epsilon = kEpsilon,
                             .dtype = Dtype::f64}) == Status::ok);
  const LayerNormGrad args{.d_y = d_y.data(),
                           .x = x.data(),
                           .gamma = affine ? gamma.data() : nullptr,
                           .mean = out.mean.data(),
                           .inv_std = out.inv_std.data(),
                           .added = added.empty() ? nullptr : added.data(),
                           .d_x = out.d_x.data(),
                           .d_gamma = out.d_gamma.data(),
                           .d_beta = out.d_beta.data(),
                           .rows = in.rows,
                           .width = in.width,
                           .dtype = Dtype::f64};
  std::vector<double> workspace(layer_norm_grad_workspace(Cpu{}, args) / sizeof(double));
  REQUIRE(layer_norm_grad(Cpu{.workspace = workspace.data(),
                              .workspace_bytes = workspace.size() * sizeof(double)},
                          args) == Status::ok);
  return out;
}

template <class T>
void check(int rows, int width, Affine affine, Added beside) {
  INFO("layer_norm [" << rows << ", " << width << "]" << (affine == Affine::yes ? " affine" : "")
                      << (beside == Added::yes ? ", added" : ""));
  const Operands<T> in(rows, width, affine, beside);
  const Results<T> out = on_device(in);
  const Results<double> want = reference(in);
  // A thread adds up to 64 values in float32, which shows in the mean; |x^| and |gamma| are below
  // 5, and where a row is short, inv_std may be 30.
  const double sums = 64 * roundoff<compute_t<T>>;
  require_close(widened(out.mean), want.mean, sums);
  require_close(widened(out.inv_std), want.inv_std, sums);
  require_close(widened(out.y), want.y, roundoff<T> + 8 * sums);
  require_close(widened(out.d_x), want.d_x, roundoff<T> + 8 * sums);
  require_close(widened(out.d_gamma), want.d_gamma, 8 * sums);
  require_close(widened(out.d_beta), want.d_beta, 8 * sums);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: layer_norm equals its float64 reference", "[cuda][layer_norm]", double,
                   float, Bf16) {
  // Scalars, and vectors of 8, 16 and 32 threads and of a block per row; several blocks of rows.
  constexpr int kVector = 16 / int(sizeof(TestType));
  for (const auto& [rows, width] : {std::pair{3, 5},
                                    {2, 48},
                                    {9, 50},
                                    {1, 257},
                                    {35, 20 * kVector},
                                    {19, 48 * kVector},
                                    {9, 100 * kVector},
                                    {2, 300 * kVector},
                                    {420, 5},
                                    {70, 1},
                                    {0, 4}})
    for (const Affine affine : {Affine::no, Affine::yes})
      for (const Added beside : {Added::no, Added::yes})
        check<TestType>(rows, width, affine, beside);
}

TEST_CASE("cuda: layer_norm gives the same bits twice, at any address and in any company",
          "[cuda][layer_norm]") {
  const Operands<float> in(5, 40, Affine::yes, Added::yes);
  const Results<float> first = on_device(in);
  for (unsigned shifted : {0u, 1u, 2u, 4u, 8u, 16u, 32u, 64u, 127u}) {
    INFO("shifted " << shifted);
    REQUIRE(same_bits(on_device(in, shifted), first));
  }
  Operands<float> one(1, 40, Affine::yes, Added::yes);
  std::copy_n(in.x.begin() + 120, 40, one.x.begin());
  std::copy_n(in.d_y.begin() + 120, 40, one.d_y.begin());
  std::copy_n(in.added.begin() + 120, 40, one.added.begin());
  const Results<float> alone = on_device(one);
  REQUIRE(std::equal(alone.y.begin(), alone.y.end(), first.y.begin() + 120));
  REQUIRE(std::equal(alone.d_x.begin(), alone.d_x.end(), first.d_x.begin() + 120));
}

TEST_CASE("cuda: layer_norm of a mean far above the deviation, of equal values, NaN and infinity",
          "[cuda][layer_norm]") {
  Operands<float> in(5, 6, Affine::no);
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  // The mean of the first row is no float32: it is rounded, but not the variance of 1/4.
  constexpr float kLarge = 8388608;
  const std::array<std::array<float, 6>, 4> rows{
      {{kLarge, kLarge + 1, kLarge, kLarge + 1, kLarge, kLarge + 1},
       {7, 7, 7, 7, 7, 7},
       {1, nan, 2, 3, 4, 5},
       {1, 2, inf, 3, 4, 5}}};
  for (size_t r = 0; r < rows.size(); ++r)
    std::copy(rows[r].begin(), rows[r].end(), in.x.begin() + int64_t(6 * r));
  const Results<float> got = on_device(in);
  REQUIRE(std::abs(got.mean[0] - kLarge) <= 1);
  REQUIRE(got.inv_std[0] == Approx(1 / std::sqrt(0.25 + kEpsilon)).epsilon(1e-6));
  for (size_t i = 0; i < 6; ++i) {
    REQUIRE(got.y[6 + i] == 0);
    REQUIRE(std::isnan(got.y[12 + i]));
    REQUIRE(std::isnan(got.y[18 + i]));
    REQUIRE(std::isfinite(got.y[24 + i]));
  }
}

TEST_CASE("cuda: layer_norm computes the gradients that are asked for", "[cuda][layer_norm]") {
  const Operands<float> in(9, 12, Affine::yes);
  const Results<float> all = on_device(in);
  const DeviceArray<float> x(in.x), d_y(in.d_y), gamma(in.gamma), mean(all.mean),
      inv_std(all.inv_std);
  for (unsigned wanted = 0; wanted < 8; ++wanted) {
    INFO("wanted " << wanted);
    const DeviceArray<float> d_x(in.x.size()), d_gamma(12), d_beta(12);
    const LayerNormGrad args{.d_y = d_y.data(),
                             .x = wanted & 3 ? x.data() : nullptr,
                             .gamma = gamma.data(),
                             .mean = mean.data(),
                             .inv_std = inv_std.data(),
                             .d_x = wanted & 1 ? d_x.data() : nullptr,
                             .d_gamma = wanted & 2 ? d_gamma.data() : nullptr,
                             .d_beta = wanted & 4 ? d_beta.data() : nullptr,
                             .rows = 9,
                             .width = 12,
                             .dtype = Dtype::f32};
    REQUIRE(run<LayerNormGrad>(layer_norm_grad, args, layer_norm_grad_workspace(Cuda{}, args)) ==
            Status::ok);
    if (wanted & 1) REQUIRE(same_bits(d_x.host(), all.d_x));
    if (wanted & 2) REQUIRE(same_bits(d_gamma.host(), all.d_gamma));
    if (wanted & 4) REQUIRE(same_bits(d_beta.host(), all.d_beta));
  }
}

TEST_CASE("cuda: layer_norm refuses what the CPU refuses before any launch", "[cuda][layer_norm]") {
  const float x = 0;
  REQUIRE(layer_norm(Cuda{}, {.rows = -1, .width = 2, .dtype = Dtype::f32}) == Status::bad_args);
  REQUIRE(layer_norm(Cuda{}, {.rows = 1, .width = 0, .dtype = Dtype::f32}) == Status::bad_args);
  REQUIRE(layer_norm(Cuda{}, {.gamma = &x, .rows = 1, .width = 1, .dtype = Dtype::f32}) ==
          Status::bad_args);
  REQUIRE(layer_norm(Cuda{}, {.rows = 1, .width = 1, .dtype = Dtype::i32}) == Status::unsupported);
  REQUIRE(layer_norm_grad(Cuda{}, {.rows = 1, .width = 0, .dtype = Dtype::f32}) ==
          Status::bad_args);
  float out = 0;
  REQUIRE(layer_norm_grad(Cuda{}, {.d_beta = &out, .rows = 1, .width = 1, .dtype = Dtype::f32}) ==
          Status::small_workspace);
}

}  // namespace moat::tests
