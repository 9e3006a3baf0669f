#include <omp.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "engine/ops/elementwise.h"
#include "engine/ops/norm.h"
#include "engine/tape.h"
#include "tests/op_case.h"

using namespace moat::engine;
using Catch::Matchers::Contains;
using moat::tests::f64;
using moat::tests::randn;

namespace {

Tensor train(const Tensor& x, Activation activation = Activation::none) {
  return batch_norm_train(x, {}, {}, {}, {}, {}, activation);
}

}  // namespace

TEST_CASE("batch_norm_train updates the running statistics with the unbiased variance") {
  const Tensor x = Tensor::from<float>({1, 10, 2, 10, 6, 40}, {3, 2});
  const Tensor mean = Tensor::full({2}, 1), var = Tensor::full({2}, 2);
  batch_norm_train(x, {}, {}, mean, var, {}, Activation::none, {.momentum = 0.25});
  // Means 3 and 20; sums of squared differences 14 and 600 over 2.
  CHECK(mean.to_vector<float>() == std::vector<float>{1.5f, 5.75f});
  CHECK(var.to_vector<float>() == std::vector<float>{3.25f, 76.5f});
}

TEST_CASE("batch_norm_train: statistics hold when the mean is large beside the deviation") {
  // Float32 has 24 bits: 2^20 ± 1 leaves 1/8 of the deviation per unit in the last place.
  const int64_t rows = 5000;
  for (int64_t c : {1, 3, 40}) {
    const Tensor x = Tensor::empty({rows, c});
    for (int64_t i = 0; i < x.size(); ++i)
      x.data_as<float>()[i] = 1048576.0f + (i / c % 2 ? 1.0f : -1.0f);
    const Tensor mean = Tensor::zeros({c}), var = Tensor::zeros({c});
    const auto y = batch_norm_train(x, {}, {}, mean, var, {}, Activation::none, {.momentum = 1})
                       .to_vector<float>();
    CHECK(mean.to_vector<float>()[0] == 1048576.0f);
    CHECK(var.to_vector<float>()[0] == Approx(5000.0 / 4999.0).epsilon(1e-6));
    for (size_t i = 0; i < y.size(); i += 977) CHECK(std::abs(y[i]) == Approx(1).epsilon(1e-5));
  }
}

TEST_CASE("batch_norm_train: the same bits for every number of threads") {
  const Tensor x = randn({3001, 24}).to(Dtype::f32), d_y = randn({3001, 24}, 1).to(Dtype::f32);
  const int threads = omp_get_max_threads();
  std::vector<float> y_first, d_first;
  for (int n : {1, 2, 3, 5}) {
    omp_set_num_threads(n);
    Tape tape;
    const Tensor v = tape.watch(x), y = train(v, Activation::relu);
    const auto d_x = tape.gradients(y, d_y).of(v).to_vector<float>();
    if (n == 1) {
      y_first = y.to_vector<float>();
      d_first = d_x;
    }
    CHECK(y.to_vector<float>() == y_first);
    CHECK(d_x == d_first);
  }
  omp_set_num_threads(threads);
}

TEST_CASE("batch_norm_eval: an image's result does not depend on its batch") {
  const Tensor x = randn({9, 5}).to(Dtype::f32), mean = randn({5}, 1).to(Dtype::f32),
               var = Tensor::full({5}, 2);
  const auto eval = [&](const Tensor& t) {
    return batch_norm_eval(t, {}, {}, mean, var, {}, Activation::relu).to_vector<float>();
  };
  const auto all = eval(x);
  for (int64_t i = 0; i < 9; ++i)
    CHECK(eval(x.sliced(0, i, i + 1)) ==
          std::vector<float>(all.begin() + i * 5, all.begin() + (i + 1) * 5));
}

TEST_CASE("batch norm passes NaN on, and a constant channel stays finite") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>({nan, 4, 1, 4, 2, 4}, {3, 2});
  const auto y = train(x, Activation::relu).to_vector<float>();
  for (size_t i = 0; i < 6; i += 2) CHECK(std::isnan(y[i]));
  for (size_t i = 1; i < 6; i += 2) CHECK(y[i] == 0);
}

TEST_CASE("batch norm: a gradient asked for alone equals the one asked for with the others") {
  const Tensor x = randn({50, 7}), gamma = randn({7}, 1), beta = randn({7}, 2),
               residual = randn({50, 7}, 3), mean = randn({7}, 4),
               var = Tensor::full({7}, 2, Dtype::f64), d_y = randn({50, 7}, 5);
  for (const bool batch : {true, false}) {
    const auto grads_of = [&](unsigned which) {
      Tape tape;
      Tensors in = {x, gamma, beta, residual};
      for (unsigned i = 0; i < 4; ++i)
        if (which >> i & 1) in[i] = tape.watch(in[i]);
      const Tensor y =
          batch ? batch_norm_train(in[0], in[1], in[2], {}, {}, in[3], Activation::relu)
                : batch_norm_eval(in[0], in[1], in[2], mean, var, in[3], Activation::relu);
      const Gradients grads = tape.gradients(y, d_y);
      std::vector<std::vector<double>> out;
      for (unsigned i = 0; i < 4; ++i)
        out.push_back(which >> i & 1 ? grads.of(in[i]).to_vector<double>() : std::vector<double>{});
      return out;
    };
    const auto all = grads_of(15);
    for (unsigned i = 0; i < 4; ++i) {
      INFO("input " << i << " batch " << batch);
      CHECK(grads_of(1u << i)[i] == all[i]);
    }
  }
}

TEST_CASE("batch_norm_eval's gradient uses the statistics of its forward") {
  const Tensor mean = Tensor::full({1}, 1), var = Tensor::full({1}, 4);
  Tape tape;
  const Tensor gamma = tape.watch(Tensor::full({1}, 1));
  const Tensor y = batch_norm_eval(Tensor::full({1, 1}, 3), gamma, Tensor::zeros({1}), mean, var,
                                   {}, Activation::none, {.epsilon = 0});
  mean.fill(100);
  var.fill(100);
  CHECK(tape.gradients(y).of(gamma).item() == 1);
}

TEST_CASE("fold_batch_norm: the folded convolution equals the convolution and the norm") {
  const Tensor filter = randn({3, 2, 2, 4}, 1), gamma = randn({3}, 2), beta = randn({3}, 3),
               mean = randn({3}, 4), var = square(randn({3}, 5));
  const FoldedConv folded = fold_batch_norm(filter, gamma, beta, mean, var);
  const FoldedConv plain = fold_batch_norm(filter, {}, {}, mean, var);
  const Tensor patch = randn({16}, 6);  // one window of an image
  for (int o = 0; o < 3; ++o) {
    double conv = 0, with_fold = f64(folded.bias)[o], with_plain = f64(plain.bias)[o];
    for (int i = 0; i < 16; ++i) {
      conv += f64(filter)[o * 16 + i] * f64(patch)[i];
      with_fold += f64(folded.filter)[o * 16 + i] * f64(patch)[i];
      with_plain += f64(plain.filter)[o * 16 + i] * f64(patch)[i];
    }
    const double norm = (conv - f64(mean)[o]) / std::sqrt(f64(var)[o] + 1e-5);
    CHECK(with_plain == Approx(norm).margin(1e-12));
    CHECK(with_fold == Approx(f64(gamma)[o] * norm + f64(beta)[o]).margin(1e-12));
  }
}

TEST_CASE("batch norm: bad input is named") {
  const Tensor x = Tensor::zeros({4, 3});
  CHECK_THROWS_WITH(train(Tensor::zeros({1, 3})), Contains("at least two values per channel"));
  CHECK_THROWS_WITH(batch_norm_train(x, Tensor::zeros({2}), {}, {}, {}, {}, Activation::none),
                    Contains("gamma must be float32 [3], got float32 [2]"));
  CHECK_THROWS_WITH(batch_norm_train(x, {}, {}, {}, {}, Tensor::zeros({3}), Activation::none),
                    Contains("residual must be float32"));
  CHECK_THROWS_WITH(batch_norm_eval(x, {}, {}, Tensor::zeros({3}), Tensor{}, {}, Activation::none),
                    Contains("running_var must be"));
}
