#include "engine/ops/attention.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "kernels/attention/attention.h"
#include "tests/op_case.h"

using namespace moat::engine;
using Catch::Matchers::Contains;
using moat::tests::randn;

namespace {

std::vector<float> gradient(const Tensor& qkv, int heads, const Tensor& d_y) {
  Tape tape;
  const Tensor x = tape.watch(qkv);
  return tape.gradients(attention(x, heads), d_y).of(x).to(Dtype::f32).to_vector<float>();
}

}  // namespace

TEST_CASE("attention: scores of 1e4 do not overflow", "[attention]") {
  // One token whose key is every query's best by far: all rows are its value.
  const int64_t tokens = 70, width = 4;
  const Tensor qkv = randn({1, tokens, 3 * width}, 1).to(Dtype::f32);
  float* at = qkv.data_as<float>();
  for (int64_t t = 0; t < tokens; ++t) {
    at[t * 3 * width] = 200;                        // q
    at[t * 3 * width + width] = t == 65 ? 100 : 0;  // k: scores of 1e4 for token 65
  }
  const auto y = attention(qkv, 1).to_vector<float>();
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < width; ++j)
      CHECK(y[size_t(t * width + j)] == at[65 * 3 * width + 2 * width + j]);
  const Tensor d_y = Tensor::full({1, tokens, width}, 1);
  const auto d_qkv = gradient(qkv, 1, d_y);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < 3 * width; ++j) {
      // d_v is how often a token was chosen; what d_q and d_k multiply is 0 but for the rounding of
      // log-sum-exp, 2^-24 of 1e4, times keys and queries of up to 200.
      const double want = j < 2 * width ? 0 : t == 65 ? tokens : 0;
      CHECK(std::abs(d_qkv[size_t(t * 3 * width + j)] - want) <= 1e-3 * (want + 200));
    }
}

TEST_CASE("attention: an image's result does not depend on its batch", "[attention]") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Tensor qkv = randn({3, 70, 3 * 2 * 16}, 1).to(dtype),
                 d_y = randn({3, 70, 32}, 2).to(dtype);
    const auto all = attention(qkv, 2).to(Dtype::f32).to_vector<float>(),
               d_all = gradient(qkv, 2, d_y);
    for (int64_t i = 0; i < 3; ++i) {
      const Tensor one = qkv.sliced(0, i, i + 1).contiguous();
      const auto y = attention(one, 2).to(Dtype::f32).to_vector<float>(),
                 d = gradient(one, 2, d_y.sliced(0, i, i + 1));
      CHECK(std::equal(y.begin(), y.end(), all.begin() + i * int64_t(y.size())));
      CHECK(std::equal(d.begin(), d.end(), d_all.begin() + i * int64_t(d.size())));
    }
  }
}

TEST_CASE("attention: a NaN stays in its image's head", "[attention]") {
  const Tensor qkv = randn({2, 3, 3 * 2 * 4}, 1).to(Dtype::f32);
  qkv.data_as<float>()[24 + 8 + 1] = std::nanf("");  // k of token 1, head 0
  const auto y = attention(qkv, 2).to_vector<float>();
  for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i < y.size() / 2 && i % 8 < 4));
}

TEST_CASE("attention says what it was given", "[attention]") {
  CHECK_THROWS_WITH(attention(Tensor::zeros({2, 12}), 2),
                    Contains("attention: qkv must be floating-point [batch, tokens, 3 x heads x "
                             "head_width], got float32 [2, 12]"));
  CHECK_THROWS_WITH(attention(Tensor::zeros({2, 1, 12}, Dtype::i32), 2), Contains("got int32"));
  CHECK_THROWS_WITH(attention(Tensor::zeros({2, 5, 12}), 0),
                    Contains("attention: heads must be at least 1, got 0"));
  const char* axis = "attention: the last axis of qkv must be 3 x 4 heads of 1 to 128 values, got ";
  for (const int64_t values : {0, 6, 14, 3 * 4 * 129})
    CHECK_THROWS_WITH(attention(Tensor::zeros({2, 5, values}), 4),
                      Contains(axis + Shape{2, 5, values}.str()));
}

TEST_CASE("attention refuses what is outside its contract", "[attention]") {
  using namespace moat::kernels;
  const auto refused = [](int batch, int tokens, int heads, int head_width) {
    Attention a{};
    a.batch = batch, a.tokens = tokens, a.heads = heads, a.head_width = head_width;
    a.dtype = Dtype::f32;
    AttentionGrad d{};
    d.batch = batch, d.tokens = tokens, d.heads = heads, d.head_width = head_width;
    d.dtype = Dtype::f32;
    const Status status = attention(Cpu{}, a);
    CHECK(attention_grad(Cpu{}, d) == status);
    return status;
  };
  CHECK(refused(-1, 2, 1, 4) == Status::bad_args);
  CHECK(refused(1, -2, 1, 4) == Status::bad_args);
  CHECK(refused(1, 2, 0, 4) == Status::bad_args);
  CHECK(refused(1, 2, 1, 0) == Status::bad_args);
  CHECK(refused(1, 2, 1, kMostHeadWidth + 1) == Status::bad_args);
  CHECK(refused(1, 2, 1, 4) == Status::small_workspace);
}
