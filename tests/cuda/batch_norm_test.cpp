#include "kernels/vision/batch_norm.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
using Channels = std::vector<compute_t<T>>;

// |y - reference| <= tolerance (scale + |reference|); NaN for NaN.
void require_close(const char* what, const std::vector<double>& y,
                   const std::vector<double>& reference, double tolerance, double scale = 1) {
  REQUIRE(y.size() == reference.size());
  for (size_t i = 0; i < y.size(); ++i) {
    INFO(what << " " << i << ": " << y[i] << ", reference " << reference[i]);
    if (std::isnan(reference[i]))
      REQUIRE(std::isnan(y[i]));
    else
      REQUIRE(std::abs(y[i] - reference[i]) <= tolerance * (scale + std::abs(reference[i])));
  }
}

// A matrix whose device copy starts `offset` values behind an aligned address.
template <class T>
struct Matrix {
  std::vector<T> values;
  DeviceArray<T> device;
  size_t offset;

  explicit Matrix(const std::vector<T>& v, size_t at = 0)
      : values(v), device(shifted(v, at)), offset(at) {}
  explicit Matrix(size_t count, size_t at = 0) : device(count + at), offset(at) {}

  T* data() const { return device.data() + offset; }
  std::vector<T> host() const {
    const std::vector<T> all = device.host();
    return {all.begin() + static_cast<ptrdiff_t>(offset), all.end()};
  }
};

// Which of the operands are there.
struct Form {
  bool affine = true, residual = true, running = true;
  NormActivation activation = NormActivation::relu;
  unsigned shifted = 0;  // bit i: matrix i lies one value behind an aligned address

  size_t offset(int matrix) const { return shifted >> matrix & 1; }
};

template <class T>
struct TrainRun {
  std::vector<T> y;
  Channels<T> mean, inv_std, running_mean, running_var;
};

template <class T>
TrainRun<T> train_on_device(const std::vector<T>& x, const std::vector<T>& residual,
                            const Channels<T>& gamma, const Channels<T>& beta,
                            const Channels<T>& running, int64_t rows, int channels,
                            const Form& form) {
  using C = compute_t<T>;
  const auto c = size_t(channels);
  const Matrix<T> device_x(x, form.offset(0)), device_residual(residual, form.offset(1)),
      y(x.size(), form.offset(2));
  const DeviceArray<C> device_gamma(gamma), device_beta(beta), mean(c), inv_std(c),
      running_mean(running), running_var(running);
  const BatchNormTrain args{.x = device_x.data(),
                            .gamma = form.affine ? device_gamma.data() : nullptr,
                            .beta = form.affine ? device_beta.data() : nullptr,
                            .residual = form.residual ? device_residual.data() : nullptr,
                            .y = y.data(),
                            .mean = mean.data(),
                            .inv_std = inv_std.data(),
                            .running_mean = form.running ? running_mean.data() : nullptr,
                            .running_var = form.running ? running_var.data() : nullptr,
                            .rows = rows,
                            .channels = channels,
                            .momentum = 0.25,
                            .epsilon = 1e-5,
                            .activation = form.activation,
                            .dtype = dtype_of<T>};
  REQUIRE(run<BatchNormTrain>(batch_norm_train, args, batch_norm_train_workspace(Cuda{}, args)) ==
          Status::ok);
  return {y.host(), mean.host(), inv_std.host(), running_mean.host(), running_var.host()};
}

// Roundings of a thread's float32 sums: of up to 128 terms, which lie on both sides of 0.
template <class T>
constexpr double kSumError = 64 * roundoff<compute_t<T>>;

template <class T>
void check_train(int64_t rows, int channels, const Form& form, double mean_of_x = 3) {
  INFO("batch_norm_train [" << rows << ", " << channels << "], shifted " << form.shifted);
  using C = compute_t<T>;
  const size_t count = size_t(rows) * size_t(channels), c = size_t(channels);
  std::vector<double> values = normals(count, 1, 2);
  for (double& v : values) v += mean_of_x;
  const std::vector<T> x = rounded<T>(values), residual = rounded<T>(normals(count, 2));
  const Channels<T> gamma = rounded<C>(normals(c, 3)), beta = rounded<C>(normals(c, 4)),
                    running = rounded<C>(normals(c, 5));
  const TrainRun<T> out = train_on_device(x, residual, gamma, beta, running, rows, channels, form);

  const std::vector<double> wide_x = widened(x), wide_residual = widened(residual),
                            wide_gamma = widened(gamma), wide_beta = widened(beta);
  std::vector<double> y(count), mean(c), inv_std(c), running_mean = widened(running),
                                                     running_var = widened(running);
  const BatchNormTrain args{.x = wide_x.data(),
                            .gamma = form.affine ? wide_gamma.data() : nullptr,
                            .beta = form.affine ? wide_beta.data() : nullptr,
                            .residual = form.residual ? wide_residual.data() : nullptr,
                            .y = y.data(),
                            .mean = mean.data(),
                            .inv_std = inv_std.data(),
                            .running_mean = form.running ? running_mean.data() : nullptr,
                            .running_var = form.running ? running_var.data() : nullptr,
                            .rows = rows,
                            .channels = channels,
                            .momentum = 0.25,
                            .epsilon = 1e-5,
                            .activation = form.activation,
                            .dtype = Dtype::f64};
  REQUIRE(run_on_cpu(batch_norm_train, args, batch_norm_train_workspace(Cpu{}, args)) ==
          Status::ok);
  // The deviation is 2; x - mean is exact but for the rounding of the mean.
  const double stat = kSumError<T> + roundoff<compute_t<T>> * std::abs(mean_of_x);
  require_close("mean", widened(out.mean), mean, 2 * stat);
  require_close("inv_std", widened(out.inv_std), inv_std, 2 * kSumError<T>, 0);
  require_close("running mean", widened(out.running_mean), running_mean, 2 * stat);
  require_close("running var", widened(out.running_var), running_var, 4 * kSumError<T>);
  require_close("y", widened(out.y), y, 2 * roundoff<T> + 16 * stat);
  const TrainRun<T> again =
      train_on_device(x, residual, gamma, beta, running, rows, channels, form);
  REQUIRE(same_bits(out.y, again.y));
  REQUIRE(same_bits(out.running_var, again.running_var));
}

template <class T>
void check_eval(int64_t rows, int channels, const Form& form) {
  INFO("batch_norm_eval [" << rows << ", " << channels << "], shifted " << form.shifted);
  using C = compute_t<T>;
  const size_t count = size_t(rows) * size_t(channels), c = size_t(channels);
  const std::vector<T> x = rounded<T>(normals(count, 1, 2)),
                       residual = rounded<T>(normals(count, 2));
  const Channels<T> gamma = rounded<C>(normals(c, 3)), beta = rounded<C>(normals(c, 4)),
                    mean = rounded<C>(normals(c, 5));
  Channels<T> var = rounded<C>(normals(c, 6));
  for (C& v : var) v = v * v + C(0.25);
  const Matrix<T> device_x(x, form.offset(0)), device_residual(residual, form.offset(1)),
      device_y(count, form.offset(2));
  const DeviceArray<C> device_gamma(gamma), device_beta(beta), device_mean(mean), device_var(var),
      device_inv_std(c);
  BatchNormEval args{.x = device_x.data(),
                     .gamma = form.affine ? device_gamma.data() : nullptr,
                     .beta = form.affine ? device_beta.data() : nullptr,
                     .mean = device_mean.data(),
                     .var = device_var.data(),
                     .residual = form.residual ? device_residual.data() : nullptr,
                     .y = device_y.data(),
                     .inv_std = device_inv_std.data(),
                     .rows = rows,
                     .channels = channels,
                     .epsilon = 1e-3,
                     .activation = form.activation,
                     .dtype = dtype_of<T>};
  REQUIRE(run<BatchNormEval>(batch_norm_eval, args, batch_norm_eval_workspace(Cuda{}, args)) ==
          Status::ok);
  const std::vector<double> wide_x = widened(x), wide_residual = widened(residual),
                            wide_gamma = widened(gamma), wide_beta = widened(beta),
                            wide_mean = widened(mean), wide_var = widened(var);
  std::vector<double> y(count), inv_std(c);
  args.x = wide_x.data();
  args.gamma = form.affine ? wide_gamma.data() : nullptr;
  args.beta = form.affine ? wide_beta.data() : nullptr;
  args.mean = wide_mean.data();
  args.var = wide_var.data();
  args.residual = form.residual ? wide_residual.data() : nullptr;
  args.y = y.data();
  args.inv_std = inv_std.data();
  args.dtype = Dtype::f64;
  REQUIRE(run_on_cpu(batch_norm_eval, args, batch_norm_eval_workspace(Cpu{}, args)) == Status::ok);
  require_close("inv_std", widened(device_inv_std.host()), inv_std, 2 * roundoff<C>, 0);
  // The terms (x - mean) gamma inv_std are up to about 30.
  require_close("y", widened(device_y.host()), y, 2 * roundoff<T> + 64 * roundoff<C>);
}

constexpr unsigned kDx = 1, kDgamma = 2, kDbeta = 4;

template <class T>
struct GradRun {
  std::vector<T> d_x;
  Channels<T> d_gamma, d_beta;
};

template <class T>
GradRun<T> check_grad(int64_t rows, int channels, NormStatistics statistics, unsigned wanted,
                      const Form& form) {
  INFO("batch_norm_grad [" << rows << ", " << channels << "], shifted " << form.shifted << ", "
                           << (statistics == NormStatistics::batch ? "batch" : "constant")
                           << " statistics, wanted " << wanted);
  using C = compute_t<T>;
  const size_t count = size_t(rows) * size_t(channels), c = size_t(channels);
  const std::vector<T> x = rounded<T>(normals(count, 1)), d = rounded<T>(normals(count, 2));
  const Channels<T> gamma = rounded<C>(normals(c, 4)), mean = rounded<C>(normals(c, 5));
  Channels<T> inv_std = rounded<C>(normals(c, 6));
  for (C& v : inv_std) v = v * v / 4 + C(0.5);

  const Matrix<T> device_d(d, form.offset(0)), device_x(x, form.offset(1)),
      d_x(count, form.offset(2));
  const DeviceArray<C> device_gamma(gamma), device_mean(mean), device_inv_std(inv_std), d_gamma(c),
      d_beta(c);
  const bool reads_x = statistics == NormStatistics::batch || (wanted & (kDgamma | kDbeta)) != 0;
  BatchNormGrad args{.d = device_d.data(),
                     .x = reads_x ? device_x.data() : nullptr,
                     .gamma = form.affine ? device_gamma.data() : nullptr,
                     .mean = device_mean.data(),
                     .inv_std = device_inv_std.data(),
                     .d_x = wanted & kDx ? d_x.data() : nullptr,
                     .d_gamma = wanted & kDgamma ? d_gamma.data() : nullptr,
                     .d_beta = wanted & kDbeta ? d_beta.data() : nullptr,
                     .rows = rows,
                     .channels = channels,
                     .statistics = statistics,
                     .dtype = dtype_of<T>};
  REQUIRE(run<BatchNormGrad>(batch_norm_grad, args, batch_norm_grad_workspace(Cuda{}, args)) ==
          Status::ok);
  const GradRun<T> out{d_x.host(), d_gamma.host(), d_beta.host()};

  const std::vector<double> wide_d = widened(d), wide_x = widened(x), wide_gamma = widened(gamma),
                            wide_mean = widened(mean), wide_inv_std = widened(inv_std);
  std::vector<double> ref_d_x(count), ref_d_gamma(c), ref_d_beta(c);
  args.d = wide_d.data();
  args.x = reads_x ? wide_x.data() : nullptr;
  args.gamma = form.affine ? wide_gamma.data() : nullptr;
  args.mean = wide_mean.data();
  args.inv_std = wide_inv_std.data();
  args.d_x = wanted & kDx ? ref_d_x.data() : nullptr;
  args.d_gamma = wanted & kDgamma ? ref_d_gamma.data() : nullptr;
  args.d_beta = wanted & kDbeta ? ref_d_beta.data() : nullptr;
  args.dtype = Dtype::f64;
  REQUIRE(run_on_cpu(batch_norm_grad, args, batch_norm_grad_workspace(Cpu{}, args)) == Status::ok);
  // Sums of `rows` terms of about 2 in magnitude.
  const double of_sums = kSumError<T> * 2 * std::sqrt(static_cast<double>(rows) + 1);
  if (wanted & kDx)
    require_close("d_x", widened(out.d_x), ref_d_x, 2 * roundoff<T> + 16 * kSumError<T>);
  if (wanted & kDgamma) require_close("d_gamma", widened(out.d_gamma), ref_d_gamma, of_sums);
  if (wanted & kDbeta) require_close("d_beta", widened(out.d_beta), ref_d_beta, of_sums);
  return out;
}

// Tiles of vectors and of single values: one row of one channel, rows that share a warp, several
// blocks of rows, two tiles of channels.
template <class T>
std::vector<std::pair<int, int>> shapes() {
  constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  return {{2, 1}, {700, 3}, {9, 37}, {1100, 2 * kVector}, {130, 34 * kVector}};
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: batch_norm_train equals its float64 reference", "[cuda][batch_norm]",
                   double, float, Bf16) {
  for (const auto& [rows, channels] : shapes<TestType>()) {
    check_train<TestType>(rows, channels, {});
    check_train<TestType>(
        rows, channels,
        {.affine = false, .residual = false, .running = false, .activation = NormActivation::none});
  }
  for (const unsigned one : {1u, 2u, 4u}) check_train<TestType>(30, 16, {.shifted = one});
}

TEST_CASE("cuda: batch_norm_train, a mean that is large beside the deviation",
          "[cuda][batch_norm]") {
  check_train<float>(2500, 8, {}, 4096);
  check_train<double>(700, 3, {}, 1000);
  // An outlier as the value that differences are taken from.
  const int64_t rows = 900;
  std::vector<float> x(size_t(rows) * 4, 1);
  for (size_t i = 4; i < x.size(); ++i) x[i] = i / 4 % 2 ? 1 : -1;
  for (size_t c = 0; c < 4; ++c) x[c] = 1e6f;
  const auto out = train_on_device<float>(x, x, {}, {}, std::vector<float>(4, 0.0f), rows, 4,
                                          {.affine = false, .residual = false});
  // 450 rows of -1, 449 of 1 and the outlier.
  const double mean = (1e6 - 1) / 900, m2 = (1e6 - mean) * (1e6 - mean) +
                                            449 * (1 - mean) * (1 - mean) +
                                            450 * (1 + mean) * (1 + mean);
  REQUIRE(std::abs(out.mean[0] - mean) <= 1e-5 * mean);
  REQUIRE(std::abs(out.inv_std[0] - 1 / std::sqrt(m2 / 900)) <= 1e-5 / std::sqrt(m2 / 900));
}

TEST_CASE("cuda: batch_norm_train keeps NaN and infinity in their channel", "[cuda][batch_norm]") {
  const double inf = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (const double odd : {nan, inf, -inf}) {
    const int64_t rows = 300;
    const int channels = 4;
    std::vector<float> x = rounded<float>(normals(size_t(rows * channels), 1));
    x[size_t(200 * channels + 2)] = static_cast<float>(odd);
    x[1] = static_cast<float>(odd);
    const auto out = train_on_device<float>(x, x, {}, {}, std::vector<float>(4, 0.0f), rows,
                                            channels, {.affine = false, .residual = false});
    for (size_t i = 0; i < out.y.size(); ++i)
      REQUIRE(std::isnan(out.y[i]) == (i % 4 == 1 || i % 4 == 2));
  }
}

TEMPLATE_TEST_CASE("cuda: batch_norm_eval equals its float64 reference", "[cuda][batch_norm]",
                   double, float, Bf16) {
  for (const auto& [rows, channels] : shapes<TestType>()) {
    check_eval<TestType>(rows, channels, {});
    check_eval<TestType>(rows, channels,
                         {.affine = false, .residual = false, .activation = NormActivation::none});
  }
  check_eval<TestType>(0, 5, {});
  for (const unsigned one : {1u, 2u, 4u}) check_eval<TestType>(1, 16, {.shifted = one});
}

TEMPLATE_TEST_CASE("cuda: batch_norm_grad equals its float64 reference", "[cuda][batch_norm]",
                   double, float, Bf16) {
  constexpr unsigned kAll = kDx | kDgamma | kDbeta;
  for (const auto statistics : {NormStatistics::constant, NormStatistics::batch}) {
    for (const auto& [rows, channels] : shapes<TestType>()) {
      const auto first = check_grad<TestType>(rows, channels, statistics, kAll, {}),
                 second = check_grad<TestType>(rows, channels, statistics, kAll, {});
      REQUIRE(same_bits(first.d_x, second.d_x));
      REQUIRE(same_bits(first.d_gamma, second.d_gamma));
    }
    for (const unsigned one : {1u, 2u, 4u})
      check_grad<TestType>(17, 16, statistics, kAll, {.shifted = one});
    const auto sums = check_grad<TestType>(500, 16, statistics, kDgamma | kDbeta, {});
    for (const unsigned one : {0u, 4u}) {
      const auto all = check_grad<TestType>(500, 16, statistics, kAll, {.shifted = one});
      REQUIRE(same_bits(all.d_gamma, sums.d_gamma));
      REQUIRE(same_bits(all.d_beta, sums.d_beta));
    }
    check_grad<TestType>(0, 5, statistics, kAll, {});
    for (unsigned wanted = 0; wanted <= kAll; ++wanted)
      check_grad<TestType>(21, 8, statistics, wanted, {.affine = wanted % 3 != 0});
  }
}

TEMPLATE_TEST_CASE("cuda: batch_norm_fold equals its float64 reference", "[cuda][batch_norm]",
                   double, float) {
  using T = TestType;
  for (const auto& [channels, size, offset] :
       {std::array{3, 7, 0}, {2, 1100, 0}, {5, 8, 1}, {2, 0, 0}, {0, 4, 0}}) {
    for (const bool affine : {true, false}) {
      INFO("batch_norm_fold [" << channels << ", " << size << "]");
      const auto c = size_t(channels), count = c * size_t(size);
      const std::vector<T> filter = rounded<T>(normals(count, 1)),
                           gamma = rounded<T>(normals(c, 2)), beta = rounded<T>(normals(c, 3)),
                           mean = rounded<T>(normals(c, 4));
      std::vector<T> var = rounded<T>(normals(c, 5));
      for (T& v : var) v = v * v + T(0.25);
      const Matrix<T> device_filter(filter, size_t(offset)), folded(count, size_t(offset));
      const DeviceArray<T> device_gamma(gamma), device_beta(beta), device_mean(mean),
          device_var(var), bias(c);
      BatchNormFold args{.filter = device_filter.data(),
                         .gamma = affine ? device_gamma.data() : nullptr,
                         .beta = affine ? device_beta.data() : nullptr,
                         .mean = device_mean.data(),
                         .var = device_var.data(),
                         .folded = folded.data(),
                         .bias = bias.data(),
                         .channels = channels,
                         .filter_size = size,
                         .epsilon = 1e-3,
                         .dtype = dtype_of<T>};
      REQUIRE(run<BatchNormFold>(batch_norm_fold, args) == Status::ok);
      const std::vector<double> wide_filter = widened(filter), wide_gamma = widened(gamma),
                                wide_beta = widened(beta), wide_mean = widened(mean),
                                wide_var = widened(var);
      std::vector<double> ref_folded(count), ref_bias(c);
      args.filter = wide_filter.data();
      args.gamma = affine ? wide_gamma.data() : nullptr;
      args.beta = affine ? wide_beta.data() : nullptr;
      args.mean = wide_mean.data();
      args.var = wide_var.data();
      args.folded = ref_folded.data();
      args.bias = ref_bias.data();
      args.dtype = Dtype::f64;
      REQUIRE(batch_norm_fold(Cpu{}, args) == Status::ok);
      require_close("folded", widened(folded.host()), ref_folded, 4 * roundoff<T>);
      require_close("bias", widened(bias.host()), ref_bias, 4 * roundoff<T>);
    }
  }
}

TEST_CASE("cuda: batch_norm refuses what the CPU refuses before any launch", "[cuda][batch_norm]") {
  const float x = 0;
  BatchNormTrain train{.rows = 2, .channels = 3, .dtype = Dtype::f32};
  REQUIRE(batch_norm_train(Cuda{}, train) == Status::small_workspace);
  train.rows = 1;
  REQUIRE(batch_norm_train(Cuda{}, train) == Status::bad_args);
  BatchNormEval eval{.rows = 2, .channels = 3, .dtype = Dtype::f32};
  REQUIRE(batch_norm_eval(Cuda{}, eval) == Status::small_workspace);
  eval.channels = 0;
  REQUIRE(batch_norm_eval(Cuda{}, eval) == Status::bad_args);
  eval = {.rows = 2, .channels = 3, .dtype = Dtype::i32};
  REQUIRE(batch_norm_eval(Cuda{}, eval) == Status::unsupported);
  BatchNormGrad grad{
      .x = &x, .rows = 2, .channels = 3, .statistics = NormStatistics::batch, .dtype = Dtype::f32};
  REQUIRE(batch_norm_grad(Cuda{}, grad) == Status::small_workspace);
  grad.x = nullptr;
  REQUIRE(batch_norm_grad(Cuda{}, grad) == Status::bad_args);
  REQUIRE(batch_norm_fold(Cuda{}, {.channels = 1, .filter_size = -1, .dtype = Dtype::f32}) ==
          Status::bad_args);
  REQUIRE(batch_norm_fold(Cuda{}, {.channels = 1, .filter_size = 1, .dtype = Dtype::bf16}) ==
          Status::unsupported);
}

}  // namespace moat::tests
