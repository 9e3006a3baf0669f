#include <omp.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "engine/ops/elementwise.h"
#include "engine/ops/moe.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/ops/vision.h"
#include "engine/tape.h"
#include "kernels/library/context.h"
#include "tests/cases/conv_reference.h"
#include "tests/op_case.h"

using namespace moat::engine;
using namespace moat::tests;

namespace {

const Conv2dOptions kSame{.stride = 1, .padding = 1};

Tensor offset_tensor(const std::vector<int>& offsets) {
  return Tensor::from(std::vector<int32_t>(offsets.begin(), offsets.end()),
                      {static_cast<int64_t>(offsets.size())});
}

// As numbers: -0 equals 0, which relu may give either way.
bool same_values(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         a.to(Dtype::f64).to_vector<double>() == b.to(Dtype::f64).to_vector<double>();
}

Tensor randn32(const Shape& shape, uint32_t stream) { return randn(shape, stream).to(Dtype::f32); }

struct Shaped {
  int64_t h, c_in, c_out, r;
  Conv2dOptions options;
};

// conv2d and its gradients with respect to x and filter under the seed d_y.
struct Result {
  Tensor y, d_x, d_filter;
};
Result run(const Tensor& x, const Tensor& filter, const Tensor& d_y, const Conv2dOptions& options) {
  Tape tape;
  const Tensor vx = tape.watch(x), vf = tape.watch(filter);
  const Tensor y = conv2d(vx, vf, options);
  const Gradients grads = tape.gradients(y, d_y);
  return {y.detached(), grads.of(vx), grads.of(vf)};
}

struct Case {
  Tensor x, filter, d_y;
};
Case case_of(const Shaped& s, int64_t n) {
  const int64_t out = (s.h + 2 * s.options.padding - s.r) / s.options.stride + 1;
  return {randn32({n, s.h, s.h, s.c_in}, 1), randn32({s.c_out, s.r, s.r, s.c_in}, 2),
          randn32({n, out, out, s.c_out}, 3)};
}

std::string thrown(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// Values in {-2 … 2}: every sum below 2^24 is exact in float32.
Tensor small_ints(const Shape& shape, uint32_t stream) {
  const Tensor ints = rand_ints(shape, -2, 3, stream);
  Tensor t = Tensor::empty(shape, Dtype::f64);
  for (int64_t i = 0; i < t.size(); ++i) f64(t)[i] = ints.data_as<int32_t>()[i];
  return t;
}

}  // namespace

TEST_CASE("conv2d: an image's result does not depend on its batch", "[conv]") {
  const auto shaped = GENERATE(
      Shaped{8, 1, 16, 3, {1, 1}}, Shaped{8, 16, 16, 3, {1, 1}}, Shaped{8, 16, 32, 3, {2, 1}},
      Shaped{8, 16, 32, 1, {2, 0}}, Shaped{4, 32, 32, 3, {1, 1}}, Shaped{2, 64, 64, 3, {1, 1}},
      Shaped{8, 40, 64, 3, {2, 1}}, Shaped{9, 3, 5, 3, {2, 1}}, Shaped{4, 128, 128, 3, {1, 1}});
  const Dtype dtype = GENERATE(Dtype::f32, Dtype::bf16);
  if (!moat::kernels::supports(moat::kernels::Cpu{}, dtype)) return;
  CAPTURE(shaped.h, shaped.c_in, shaped.c_out, int(dtype));
  Case all = case_of(shaped, 256);
  all.x = all.x.to(dtype);
  all.d_y = all.d_y.to(dtype);
  const Result whole = run(all.x, all.filter, all.d_y, shaped.options);
  for (const auto& [from, to] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {255, 256}, {3, 10}, {100, 200}}) {
    CAPTURE(from, to);
    const Result part =
        run(all.x.sliced(0, from, to), all.filter, all.d_y.sliced(0, from, to), shaped.options);
    CHECK(same_bits(part.y, whole.y.sliced(0, from, to)));
    CHECK(same_bits(part.d_x, whole.d_x.sliced(0, from, to)));
  }
}

TEST_CASE("conv2d: an image's result does not depend on the threads", "[conv]") {
  const Shaped shaped{8, 16, 16, 3, {1, 1}};
  const Case all = case_of(shaped, 13);
  const int threads = omp_get_max_threads();
  const Result many = run(all.x, all.filter, all.d_y, shaped.options);
  omp_set_num_threads(1);
  const Result one = run(all.x, all.filter, all.d_y, shaped.options);
  omp_set_num_threads(threads);
  CHECK(same_bits(one.y, many.y));
  CHECK(same_bits(one.d_x, many.d_x));
}

TEST_CASE("conv2d: small integers are exact, whatever the chunks", "[conv]") {
  const int64_t n = GENERATE(1, 7, 100, 300);  // 100 = 64 + 32 + 4, 300 = 256 + 32 + 8 + 4
  const Tensor x = small_ints({n, 5, 5, 4}, 1), filter = small_ints({6, 3, 3, 4}, 2),
               d_y = small_ints({n, 5, 5, 6}, 3);
  const Result exact = run(x, filter, d_y, kSame);
  const Result got = run(x.to(Dtype::f32), filter.to(Dtype::f32), d_y.to(Dtype::f32), kSame);
  CHECK(same_bits(got.y, exact.y.to(Dtype::f32)));
  CHECK(same_bits(got.d_x, exact.d_x.to(Dtype::f32)));
  CHECK(same_bits(got.d_filter, exact.d_filter.to(Dtype::f32)));
}

// oneDNN 2.6 is wrong at all of these: it overruns a buffer where the channels of a strided 1x1
// filter fill no vector, and at borders that meet no pixel.
TEST_CASE("conv2d: 1x1 filters are exact with strides and with padding", "[conv]") {
  const int64_t c_in = GENERATE(1, 3, 4, 8, 12, 16), c_out = GENERATE(4, 16);
  const auto options =
      GENERATE(Conv2dOptions{.stride = 2, .padding = 0}, Conv2dOptions{.stride = 1, .padding = 2});
  const Case all = case_of({8, c_in, c_out, 1, options}, 9);
  const Tensor x = small_ints(all.x.shape(), 1), filter = small_ints(all.filter.shape(), 2),
               d_y = small_ints(all.d_y.shape(), 3);
  const Result exact = run(x, filter, d_y, options);
  const Result got = run(x.to(Dtype::f32), filter.to(Dtype::f32), d_y.to(Dtype::f32), options);
  CHECK(same_bits(got.y, exact.y.to(Dtype::f32)));
  CHECK(same_bits(got.d_x, exact.d_x.to(Dtype::f32)));
  CHECK(same_bits(got.d_filter, exact.d_filter.to(Dtype::f32)));
}

TEST_CASE("conv2d: the weight gradient is the sum over the images", "[conv]") {
  const Case all = case_of({6, 3, 5, 3, {1, 1}}, 100);
  const Result got = run(all.x, all.filter, all.d_y, kSame);
  const Result want =
      run(all.x.to(Dtype::f64), all.filter.to(Dtype::f64), all.d_y.to(Dtype::f64), kSame);
  const auto g = got.d_filter.to_vector<float>();
  const auto w = want.d_filter.to_vector<double>();
  // 3600 terms of size 1: 3600 · 2^-24 at the very most.
  for (size_t i = 0; i < g.size(); ++i) REQUIRE(g[i] == Approx(w[i]).margin(2e-4));
}

TEST_CASE("conv2d: no gradient is computed that nobody asked for", "[conv]") {
  const Tensor x = randn32({2, 4, 4, 3}, 1), filter = randn32({5, 3, 3, 3}, 2);
  Tape tape;
  const Tensor vx = tape.watch(x);
  const Tensor y = conv2d(vx, filter, kSame);
  const Gradients grads = tape.gradients(y, Tensor::full(y.shape(), 1));
  CHECK(grads.of(vx).defined());
  CHECK_FALSE(grads.of(filter).defined());
}

TEST_CASE("conv2d_packed gives the bits of conv2d", "[conv]") {
  const Tensor x = randn32({7, 8, 8, 16}, 1), filter = randn32({24, 3, 3, 16}, 2);
  const PackedConv2d packed = pack_conv2d(filter, Tensor::zeros({24}), kSame, 8, 8, Dtype::f32);
  CHECK(same_bits(conv2d_packed(x, packed, {}, Activation::none), conv2d(x, filter, kSame)));
  const Tensor d_y = randn32({7, 8, 8, 24}, 3);
  Tape tape;
  const Tensor vx = tape.watch(x);
  const Tensor d_x = tape.gradients(conv2d_packed(vx, packed, {}, Activation::none), d_y).of(vx);
  CHECK(same_bits(d_x, run(x, filter, d_y, kSame).d_x));
}

TEST_CASE("conv2d: messages name what does not fit", "[conv]") {
  using Catch::Contains;
  const Tensor x = Tensor::zeros({2, 4, 4, 3});
  CHECK_THAT(thrown([&] {
               conv2d(x, Tensor::zeros({5, 3, 3, 4}), kSame);
             }),
             Contains("conv2d: x must be [n, h, w, c_in]") && Contains("[5, 3, 3, 4]"));
  CHECK_THAT(thrown([&] {
               conv2d(x, Tensor::zeros({5, 3, 3, 3}, Dtype::f64), kSame);
             }),
             Contains("float32 filter"));
  CHECK_THAT(thrown([&] {
               conv2d(x, Tensor::zeros({5, 7, 7, 3}), kSame);
             }),
             Contains("must hold the filter"));
  CHECK_THAT(thrown([&] {
               conv2d(x, Tensor::zeros({5, 3, 3, 3}), {.stride = 0});
             }),
             Contains("stride must be at least 1"));
  const PackedConv2d packed =
      pack_conv2d(Tensor::zeros({5, 3, 3, 3}), Tensor::zeros({5}), kSame, 4, 4, Dtype::f32);
  CHECK_THAT(thrown([&] {
               conv2d_packed(Tensor::zeros({2, 5, 5, 3}), packed, {}, Activation::none);
             }),
             Contains("packed for 4x4"));
  CHECK_THAT(thrown([&] { conv2d_packed(x, packed, x, Activation::none); }),
             Contains("residual must be float32 [2, 4, 4, 5]"));
  const Tensor broken = Tensor::full({5, 3, 3, 3}, std::nan(""));
  CHECK_THAT(thrown([&] { pack_conv2d(broken, Tensor::zeros({5}), kSame, 4, 4, Dtype::f32); }),
             Contains("must be finite"));
  CHECK_THAT(thrown([&] {
               grouped_conv2d(x, Tensor::zeros({4, 3, 3, 3}), {{}, {}, offset_tensor({0, 1, 3})},
                              {}, kSame);
             }),
             Contains("cover the batch of 2"));
}

TEST_CASE("conv2d: bfloat16 is refused where the machine has none", "[conv]") {
  if (moat::kernels::supports(moat::kernels::Cpu{}, Dtype::bf16)) return;
  const Tensor x = Tensor::zeros({2, 4, 4, 3}, Dtype::bf16);
  CHECK_THROWS_AS(conv2d(x, Tensor::zeros({5, 3, 3, 3}), kSame), Error);
}

TEST_CASE("ops: grouped_conv") {
  for (const OpCase& c : grouped_conv_cases(Scale::test)) {
    INFO(c.name);
    check_op(c);
  }
}

TEST_CASE("grouped_conv2d: a segment has the bits of a convolution of its own", "[conv]") {
  const int64_t w = 8;
  const std::vector<int> offsets{0, 5, 5, 12};
  const Tensor x = randn32({12, 6, 6, 4}, 1), bank = randn32({3 * w, 3, 3, 4}, 2),
               d_y = randn32({12, 6, 6, w}, 3);
  Tape tape;
  const Tensor vx = tape.watch(x), vb = tape.watch(bank);
  const Tensor y = grouped_conv2d(vx, vb, {{}, {}, offset_tensor(offsets)}, {}, kSame);
  const Gradients grads = tape.gradients(y, d_y);
  for (int64_t e = 0; e < 3; ++e) {
    const int64_t from = offsets[size_t(e)], to = offsets[size_t(e) + 1];
    const Tensor d_filter = grads.of(vb).sliced(0, e * w, (e + 1) * w);
    if (from == to) {
      CHECK(same_bits(d_filter, Tensor::zeros(d_filter.shape())));
      continue;
    }
    const Result alone = run(x.sliced(0, from, to), bank.sliced(0, e * w, (e + 1) * w),
                             d_y.sliced(0, from, to), kSame);
    CHECK(same_bits(y.sliced(0, from, to), alone.y));
    CHECK(same_bits(grads.of(vx).sliced(0, from, to), alone.d_x));
    CHECK(same_bits(d_filter, alone.d_filter));
  }
}

TEST_CASE("grouped_conv2d: the gate's gradient", "[conv]") {
  // Small integers: every product and sum is exact.
  const std::vector<int> offsets{0, 2, 2, 5};
  const Segments segments{{}, {}, offset_tensor(offsets)};
  const Dtype dtype = GENERATE(Dtype::f64, Dtype::f32);
  const Tensor x = small_ints({5, 3, 3, 17}, 1).to(dtype),
               bank = small_ints({3 * 17, 3, 3, 17}, 2).to(dtype),
               bias = small_ints({17}, 4).to(dtype), biases = concat({bias, bias, bias}, 0),
               residual = small_ints({5, 3, 3, 17}, 5).to(dtype),
               d_y = small_ints({5, 3, 3, 17}, 3).to(dtype), gate = Tensor::full({5}, 1, dtype);
  const Tensor convolved = grouped_conv2d(x, bank, segments, {}, kSame);
  const auto per_image = [&](const Tensor& a, const Tensor& b) {
    return sum(mul(a, b).reshaped({5, 3 * 3 * 17}), 1);
  };
  {
    Tape tape;
    const Tensor vg = tape.watch(gate);
    const Tensor y = grouped_conv2d(x, bank, segments, vg, kSame);
    CHECK(same_values(y, convolved));
    CHECK(same_values(tape.gradients(y, d_y).of(vg), per_image(d_y, convolved)));
  }
  const PackedConv2d packed = pack_conv2d(bank, biases, kSame, 3, 3, dtype, 3);
  const Tensor pre = add(add(convolved, bias), residual);
  for (Activation activation : {Activation::none, Activation::relu}) {
    Tape tape;
    const Tensor vg = tape.watch(gate);
    const Tensor y = grouped_conv2d_packed(x, packed, segments, vg, residual, activation);
    const Tensor d_gate = tape.gradients(y, d_y).of(vg);
    const NoTapeScope constants;
    const bool relu_used = activation == Activation::relu;
    CHECK(same_values(y, relu_used ? maximum(pre, Tensor::scalar(0, dtype)) : pre));
    const Tensor mask = sign(maximum(pre, Tensor::scalar(0, dtype)));
    CHECK(same_values(d_gate, per_image(relu_used ? mul(d_y, mask) : d_y, convolved)));
  }
}

// A block of a network, whose input is a relu's result and has another reader. `apart` puts an op
// between, so that the tape adds and masks what else the convolution's kernel does.
TEST_CASE("convolutions add and mask their input's gradient as the tape would", "[conv]") {
  const Dtype dtype = GENERATE(Dtype::f64, Dtype::f32);
  const int side = 6, width = GENERATE(4, 40), stride = GENERATE(1, 2);
  const Conv2dOptions options{stride, 1};
  const Segments segments{{}, {}, offset_tensor({0, 2, 2, 5})};
  const Tensor pixels = randn32({5, side, side, width}, 1).to(dtype),
               filter = randn32({3 * width, 3, 3, width}, 2).to(dtype),
               bias = Tensor::zeros({3 * width}, dtype),
               one = filter.sliced(0, 0, width).contiguous();
  const auto layer = GENERATE(0, 1, 2, 3);
  const auto convolved = [&](const Tensor& x) {
    if (layer == 0) return conv2d(x, one, options);
    if (layer == 1) return grouped_conv2d(x, filter, segments, {}, options);
    if (layer == 2)
      return conv2d_packed(x,
                           pack_conv2d(one, bias.sliced(0, 0, width), options, side, side, dtype),
                           {}, Activation::relu);
    return grouped_conv2d_packed(x, pack_conv2d(filter, bias, options, side, side, dtype, 3),
                                 segments, {}, {}, Activation::relu);
  };
  CAPTURE(layer, width, stride, int(dtype));
  const auto gradient = [&](bool apart, bool shortcut) {
    Tape tape;
    const Tensor x = tape.watch(pixels), h = relu(x);
    const Tensor y = convolved(apart ? affine(h, 1, 0) : h);
    const Tensor d_y = randn32(y.shape(), 3).to(dtype), d_h = randn32(h.shape(), 4).to(dtype);
    Tensor loss = sum(mul(y, d_y));
    if (shortcut) loss = add(loss, sum(mul(h, d_h)));
    return tape.gradients(loss).of(x);
  };
  for (const bool shortcut : {false, true})
    CHECK(same_bits(gradient(false, shortcut), gradient(true, shortcut)));
}

TEST_CASE("max_pool2d: ties and NaN", "[pool]") {
  const float nan = std::nanf("");
  Tape tape;
  // Two windows: a tie of 3s, and a NaN that is not first.
  const Tensor x = tape.watch(Tensor::from<float>({1, 3, 5, 2, 3, 0, nan, 9}, {1, 2, 4, 1}));
  const Tensor y = max_pool2d(x, 2, 2, 0);
  CHECK(y.to_vector<float>()[0] == 3);
  CHECK(std::isnan(y.to_vector<float>()[1]));
  const Tensor d_x = tape.gradients(y, Tensor::from<float>({1, 2}, {1, 1, 2, 1})).of(x);
  CHECK(d_x.to_vector<float>() == std::vector<float>{0, 1, 0, 0, 0, 0, 2, 0});
}

TEST_CASE("pools: messages name what does not fit", "[pool]") {
  using Catch::Contains;
  const Tensor x = Tensor::zeros({1, 4, 4, 3});
  CHECK_THAT(thrown([&] { max_pool2d(x, 2, 2, 2); }), Contains("padding at most half"));
  CHECK_THAT(thrown([&] { avg_pool2d(x, 5, 1); }), Contains("must hold the window"));
  CHECK_THAT(thrown([&] { global_avg_pool(Tensor::zeros({2, 3})); }), Contains("[n, h, w, c]"));
  CHECK_THAT(thrown([&] { subsample_pad(x, 2, 2); }), Contains("c_out at least 3"));
}
