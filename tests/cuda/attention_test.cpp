#include "kernels/attention/attention.h"

#include <limits>

#include "kernels/library/context.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Extents {
  int batch, tokens, heads, width;

  size_t values() const { return size_t(batch) * size_t(tokens) * size_t(heads) * size_t(width); }
  size_t rows() const { return size_t(batch) * size_t(tokens) * size_t(heads); }
};

template <class T>
struct Results {
  std::vector<T> y, d_qkv;
  std::vector<compute_t<T>> log_sum_exp;
};

template <class Args>
void run(Status (*kernel)(Cuda, const Args&), size_t (*workspace)(Cuda, const Args&),
         const Args& args, Precision precision) {
  Context context;
  context.set_precision(precision);
  const DeviceArray<char> scratch(workspace(Cuda{}, args));
  REQUIRE(kernel({.context = &context,
                  .workspace = scratch.data(),
                  .workspace_bytes = workspace(Cuda{}, args)},
                 args) == Status::ok);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

// Bit i of `shifted`: array i lies one value behind an aligned address.
template <class T>
Results<T> on_device(const Extents& e, const std::vector<T>& qkv, const std::vector<T>& d_y,
                     unsigned shifted = 0, Precision precision = Precision::float32) {
  const auto shift = [&](int i) { return size_t(shifted >> i & 1); };
  const ShiftedArray<T> device_qkv(qkv, shift(0)), device_d_y(d_y, shift(1)),
      y(e.values(), shift(2)), d_qkv(3 * e.values(), shift(3));
  const DeviceArray<compute_t<T>> log_sum_exp(e.rows());
  const Attention args{.qkv = device_qkv.data(),
                       .y = y.data(),
                       .log_sum_exp = log_sum_exp.data(),
                       .batch = e.batch,
                       .tokens = e.tokens,
                       .heads = e.heads,
                       .head_width = e.width,
                       .dtype = dtype_of<T>};
  run<Attention>(attention, attention_workspace, args, precision);
  const AttentionGrad grad{.qkv = device_qkv.data(),
                           .y = y.data(),
                           .log_sum_exp = log_sum_exp.data(),
                           .d_y = device_d_y.data(),
                           .d_qkv = d_qkv.data(),
                           .batch = e.batch,
                           .tokens = e.tokens,
                           .heads = e.heads,
                           .head_width = e.width,
                           .dtype = dtype_of<T>};
  run<AttentionGrad>(attention_grad, attention_grad_workspace, grad, precision);
  return {y.host(), d_qkv.host(), log_sum_exp.host()};
}

Results<double> reference(const Extents& e, const std::vector<double>& qkv,
                          const std::vector<double>& d_y) {
  Results<double> out{std::vector<double>(e.values()), std::vector<double>(3 * e.values()),
                      std::vector<double>(e.rows())};
  const Attention args{.qkv = qkv.data(),
                       .y = out.y.data(),
                       .log_sum_exp = out.log_sum_exp.data(),
                       .batch = e.batch,
                       .tokens = e.tokens,
                       .heads = e.heads,
                       .head_width = e.width,
                       .dtype = Dtype::f64};
  REQUIRE(run_on_cpu(attention, args, attention_workspace(Cpu{}, args)) == Status::ok);
  const AttentionGrad grad{.qkv = qkv.data(),
                           .y = out.y.data(),
                           .log_sum_exp = out.log_sum_exp.data(),
                           .d_y = d_y.data(),
                           .d_qkv = out.d_qkv.data(),
                           .batch = e.batch,
                           .tokens = e.tokens,
                           .heads = e.heads,
                           .head_width = e.width,
                           .dtype = Dtype::f64};
  REQUIRE(run_on_cpu(attention_grad, grad, attention_grad_workspace(Cpu{}, grad)) == Status::ok);
  return out;
}

template <class T>
std::vector<T> random_values(size_t count, unsigned seed) {
  return rounded<T>(normals(count, seed));
}

template <class T>
void check(const Extents& e, Precision precision = Precision::float32) {
  INFO("attention of " << e.batch << " x " << e.tokens << " tokens, " << e.heads << " heads of "
                       << e.width);
  const auto qkv = random_values<T>(3 * e.values(), 1), d_y = random_values<T>(e.values(), 2);
  const Results<T> got = on_device(e, qkv, d_y, 0, precision);
  const Results<double> want = reference(e, widened(qkv), widened(d_y));
  // A head's width and the tokens are summed in any order, of terms of a few units. Tensor cores
  // have rounded operands besides: of scores, of which a handful of terms make the most, and of the
  // other products.
  const double sums = 8 * (8 + e.width) * roundoff<compute_t<T>>;
  const double operands = sizeof(T) == 2 ? roundoff<T> : precision == Precision::tf32 ? 0x1p-11 : 0;
  // The log-sum-exp of bfloat16 values comes from exact products.
  require_close(widened(got.log_sum_exp), want.log_sum_exp,
                sums + (sizeof(T) == 2 ? 0 : 4 * operands));
  require_close(widened(got.y), want.y, sums + 4 * operands);
  require_close(widened(got.d_qkv), want.d_qkv, 4 * sums + 8 * operands);
}

// One tile and several, of 64 rows and of 80, whole and ragged; heads of one chunk, of less and of
// more than a tile.
template <class T>
void check_all(Precision precision = Precision::float32) {
  for (const Extents& e : {Extents{2, 5, 2, 8},
                           {1, 70, 1, 16},
                           {1, 3, 2, 5},
                           {1, 34, 1, 72},
                           {1, 64, 1, 64},
                           {1, 65, 2, 64},
                           {1, 80, 1, 24},
                           {1, 81, 1, 8},
                           {1, 129, 1, 16},
                           {2, 1, 1, 1},
                           {1, 2, 1, 128},
                           {0, 4, 1, 8},
                           {3, 0, 2, 8}})
    check<T>(e, precision);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: attention equals its float64 reference", "[cuda][attention]", double,
                   float, Bf16) {
  check_all<TestType>();
}

TEST_CASE("cuda: attention with tf32 equals its float64 reference", "[cuda][attention]") {
  check_all<float>(Precision::tf32);
}

TEST_CASE("cuda: attention gives the same bits twice, at any address and in any company",
          "[cuda][attention]") {
  const auto check_bits = [&]<class T>(Precision precision) {
    const Extents e{2, 65, 2, 16}, one{1, 65, 2, 16};
    const auto qkv = random_values<T>(3 * e.values(), 1), d_y = random_values<T>(e.values(), 2);
    const Results<T> first = on_device(e, qkv, d_y, 0, precision);
    for (unsigned shifted : {0u, 1u, 2u, 4u, 8u, 15u}) {
      INFO("shifted " << shifted);
      const Results<T> again = on_device(e, qkv, d_y, shifted, precision);
      REQUIRE(same_bits(again.y, first.y));
      REQUIRE(same_bits(again.d_qkv, first.d_qkv));
      REQUIRE(same_bits(again.log_sum_exp, first.log_sum_exp));
    }
    const auto second_half = [](const std::vector<T>& v) {
      return std::vector<T>(v.begin() + int64_t(v.size() / 2), v.end());
    };
    const Results<T> alone = on_device(one, second_half(qkv), second_half(d_y), 0, precision);
    REQUIRE(same_bits(alone.y, second_half(first.y)));
    REQUIRE(same_bits(alone.d_qkv, second_half(first.d_qkv)));
  };
  check_bits.template operator()<float>(Precision::float32);
  check_bits.template operator()<float>(Precision::tf32);
  check_bits.template operator()<Bf16>(Precision::float32);
}

TEST_CASE("cuda: attention of scores of -1e4, which rows of zeros are far above",
          "[cuda][attention]") {
  const auto check_finite = [&]<class T>() {
    const Extents e{1, 70, 1, 8};
    auto qkv = random_values<T>(3 * e.values(), 1);
    for (size_t t = 0; t < 70; ++t) {
      qkv[24 * t] = T(200.f);       // q
      qkv[24 * t + 8] = T(-160.f);  // k
    }
    const Results<T> got = on_device(e, qkv, random_values<T>(e.values(), 2));
    for (const T y : got.y) REQUIRE(std::abs(float(y)) < 4);
    for (const T d : got.d_qkv) REQUIRE(std::isfinite(float(d)));
  };
  check_finite.template operator()<float>();
  check_finite.template operator()<Bf16>();
}

TEST_CASE("cuda: gradients of bfloat16 at scores of 4e5", "[cuda][attention]") {
  // What all scores of a query have in common is without effect; their log-sum-exp is rounded.
  const Extents e{1, 65, 1, 64};
  const size_t width = 64, row = 3 * width;
  auto qkv = random_values<Bf16>(3 * e.values(), 1);
  for (size_t i = 0; i < qkv.size(); ++i)
    if (i % row < 2 * width) qkv[i] = Bf16(10 * qkv[i]);
  for (size_t i = 0; i < qkv.size(); i += row) qkv[i] = Bf16(2000.f), qkv[i + width] = Bf16(1600.f);
  const auto d_y = random_values<Bf16>(e.values(), 2);
  const std::vector<Bf16> got = on_device(e, qkv, d_y).d_qkv;
  const std::vector<double> want = reference(e, widened(qkv), widened(d_y)).d_qkv;
  double wrong = 0, size = 0;  // of d_q
  for (size_t i = 0; i < got.size(); ++i)
    if (i % row < width) {
      wrong += std::pow(double(got[i]) - want[i], 2);
      size += std::pow(want[i], 2);
    }
  CAPTURE(std::sqrt(wrong / size));
  REQUIRE(wrong < 0.01 * size);
}

TEST_CASE("cuda: attention of bfloat16 keeps NaN to its query", "[cuda][attention]") {
  const Extents e{1, 70, 1, 4};
  auto qkv = random_values<Bf16>(3 * e.values(), 1);
  qkv[12 * 3 + 1] = Bf16(std::numeric_limits<float>::quiet_NaN());  // q of token 3
  const Results<Bf16> got = on_device(e, qkv, random_values<Bf16>(e.values(), 2));
  for (size_t i = 0; i < got.y.size(); ++i) REQUIRE(std::isnan(float(got.y[i])) == (i / 4 == 3));
  for (size_t i = 0; i < got.d_qkv.size(); ++i)  // every key and value meets that query
    REQUIRE(std::isnan(float(got.d_qkv[i])) == (i % 12 >= 4 || i / 12 == 3));
}

TEST_CASE("cuda: attention of scores of 1e4 and of NaN", "[cuda][attention]") {
  const Extents e{1, 70, 1, 4};
  auto qkv = random_values<float>(3 * e.values(), 1);
  const auto d_y = random_values<float>(e.values(), 2);
  for (size_t t = 0; t < 70; ++t) {
    qkv[12 * t] = 200;                      // q
    qkv[12 * t + 4] = t == 65 ? 100.f : 0;  // k: every query's best by far is token 65
  }
  const Results<float> got = on_device(e, qkv, d_y);
  for (size_t i = 0; i < got.y.size(); ++i) REQUIRE(got.y[i] == qkv[65 * 12 + 8 + i % 4]);
  for (const float d : got.d_qkv) REQUIRE(std::isfinite(d));
  qkv[12 * 3 + 1] = std::numeric_limits<float>::quiet_NaN();  // q of token 3
  const std::vector<float> y = on_device(e, qkv, d_y).y;
  for (size_t i = 0; i < y.size(); ++i) REQUIRE(std::isnan(y[i]) == (i / 4 == 3));
}

TEST_CASE("cuda: attention of scores of 4e10", "[cuda][attention]") {
  const Extents e{1, 70, 1, 8};
  auto qkv = random_values<float>(3 * e.values(), 1);
  const auto d_y = random_values<float>(e.values(), 2);
  // Their powers of two are rounded by 1046 and -1763.
  for (const float product : {1.1e11f, 1.2e11f}) {
    for (size_t t = 0; t < 70; ++t) {
      for (size_t i = 0; i < 16; ++i) qkv[24 * t + i] = 0;
      qkv[24 * t] = product;      // q
      qkv[24 * t + 8] = t == 65;  // k
    }
    const std::vector<float> y = on_device(e, qkv, d_y).y;
    for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == qkv[65 * 24 + 16 + i % 8]);
  }
}

TEST_CASE("cuda: attention refuses what the CPU refuses before any launch", "[cuda][attention]") {
  for (const Extents& e : {Extents{-1, 1, 1, 1},
                           {1, -1, 1, 1},
                           {1, 1, 0, 1},
                           {1, 1, 1, 0},
                           {1, 1, 1, kMostHeadWidth + 1}}) {
    REQUIRE(attention(Cuda{}, {.batch = e.batch,
                               .tokens = e.tokens,
                               .heads = e.heads,
                               .head_width = e.width,
                               .dtype = Dtype::f32}) == Status::bad_args);
    REQUIRE(attention_grad(Cuda{}, {.batch = e.batch,
                                    .tokens = e.tokens,
                                    .heads = e.heads,
                                    .head_width = e.width,
                                    .dtype = Dtype::f32}) == Status::bad_args);
  }
  REQUIRE(attention(Cuda{},
                    {.batch = 1, .tokens = 1, .heads = 1, .head_width = 1, .dtype = Dtype::i32}) ==
          Status::unsupported);
  REQUIRE(
      attention_grad(Cuda{},
                     {.batch = 1, .tokens = 1, .heads = 1, .head_width = 1, .dtype = Dtype::f32}) ==
      Status::small_workspace);
}

}  // namespace moat::tests
