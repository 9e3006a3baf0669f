#include "kernels/vision/conv_epilogue_grad.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Shape {
  std::vector<int32_t> counts;  // images of each segment
  int left = 0;                 // images behind the last one
  int pixels = 1, channels = 1;
  unsigned shifted = 0;  // bit i: operand i lies one value behind an aligned address

  size_t offset(int operand) const { return shifted >> operand & 1; }

  int segments() const { return static_cast<int>(counts.size()); }
  std::vector<int32_t> offsets() const {
    std::vector<int32_t> out{0};
    for (int count : counts) out.push_back(out.back() + count);
    return out;
  }
  int n() const { return offsets().back() + left; }
  size_t image() const { return size_t(pixels) * size_t(channels); }
  size_t size() const { return size_t(n()) * image(); }
};

struct Form {
  ConvActivation activation = ConvActivation::relu;
  bool bias = true, residual = true, d_pre = true, d_gate = true;
};

template <class T>
struct Operands {
  std::vector<T> d_y, y, residual;
  std::vector<compute_t<T>> bias;

  explicit Operands(const Shape& s)
      : d_y(rounded<T>(normals(s.size(), 1))),
        residual(rounded<T>(normals(s.size(), 2))),
        bias(rounded<compute_t<T>>(normals(size_t(s.segments()) * size_t(s.channels), 3))) {
    std::vector<double> values = normals(s.size(), 4);
    for (size_t i = 0; i < values.size(); i += 3) values[i] = 0;
    y = rounded<T>(values);
  }
};

template <class T>
struct Gradients {
  std::vector<T> d_pre;
  std::vector<compute_t<T>> d_gate;
};

template <class T>
std::vector<T> behind(const std::vector<T>& values, size_t offset) {
  std::vector<T> out(offset);
  out.insert(out.end(), values.begin(), values.end());
  return out;
}

template <class T>
Gradients<T> on_device(const Shape& s, const Form& form, const Operands<T>& in) {
  using C = compute_t<T>;
  const DeviceArray<T> d_y(behind(in.d_y, s.offset(0))), y(behind(in.y, s.offset(1))),
      residual(behind(in.residual, s.offset(2))), d_pre(s.size() + s.offset(4));
  const DeviceArray<C> bias(behind(in.bias, s.offset(3))), d_gate(size_t(s.n()));
  const DeviceArray<int32_t> offsets(s.offsets());
  const ConvEpilogueGrad args{.d_y = d_y.data() + s.offset(0),
                              .y = y.data() + s.offset(1),
                              .residual = form.residual ? residual.data() + s.offset(2) : nullptr,
                              .bias = form.bias ? bias.data() + s.offset(3) : nullptr,
                              .d_pre = form.d_pre ? d_pre.data() + s.offset(4) : nullptr,
                              .d_gate = form.d_gate ? d_gate.data() : nullptr,
                              .offsets = form.bias ? offsets.data() : nullptr,
                              .n = s.n(),
                              .segments = s.segments(),
                              .pixels = s.pixels,
                              .channels = s.channels,
                              .activation = form.activation,
                              .dtype = dtype_of<T>};
  REQUIRE(run<ConvEpilogueGrad>(conv_epilogue_grad, args) == Status::ok);
  const std::vector<T> all = d_pre.host();
  return {{all.begin() + ptrdiff_t(s.offset(4)), all.end()}, d_gate.host()};
}

template <class T>
void check(const Shape& s, const Form& form) {
  INFO("conv_epilogue_grad of " << s.n() << " images [" << s.pixels << ", " << s.channels
                                << "], shifted " << s.shifted);
  const Operands<T> in(s);
  const Gradients<T> out = on_device(s, form, in);
  const std::vector<double> d_y = widened(in.d_y), y = widened(in.y),
                            residual = widened(in.residual);
  // Images behind the last segment are one without bias for the CPU.
  std::vector<double> bias = widened(in.bias);
  bias.resize(bias.size() + size_t(s.channels));
  std::vector<int32_t> offsets = s.offsets();
  offsets.push_back(s.n());
  std::vector<double> d_pre(s.size()), d_gate(size_t(s.n()));
  REQUIRE(conv_epilogue_grad(Cpu{}, {.d_y = d_y.data(),
                                     .y = y.data(),
                                     .residual = form.residual ? residual.data() : nullptr,
                                     .bias = form.bias ? bias.data() : nullptr,
                                     .d_pre = form.d_pre ? d_pre.data() : nullptr,
                                     .d_gate = form.d_gate ? d_gate.data() : nullptr,
                                     .offsets = offsets.data(),
                                     .n = s.n(),
                                     .segments = s.segments() + 1,
                                     .pixels = s.pixels,
                                     .channels = s.channels,
                                     .activation = form.activation,
                                     .dtype = Dtype::f64}) == Status::ok);
  if (form.d_pre) REQUIRE(widened(out.d_pre) == d_pre);
  // An image's sum of terms of about 2 in magnitude, a few to a thread.
  const double tolerance = 4 * roundoff<compute_t<T>> * (1 + static_cast<double>(s.image()));
  for (size_t i = 0; form.d_gate && i < d_gate.size(); ++i) {
    INFO("image " << i << ": " << double{out.d_gate[i]} << ", reference " << d_gate[i]);
    REQUIRE(std::abs(out.d_gate[i] - d_gate[i]) <= tolerance);
  }
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: conv_epilogue_grad equals its float64 reference",
                   "[cuda][conv_epilogue_grad]", double, float, Bf16) {
  const std::vector<int32_t> ragged{0, 2, 0, 1, 0};
  for (const auto activation : {ConvActivation::none, ConvActivation::relu})
    for (const bool bias : {true, false})
      for (const bool residual : {true, false})
        for (const bool d_gate : {true, false}) {
          const Form form{.activation = activation,
                          .bias = bias,
                          .residual = residual,
                          .d_pre = activation == ConvActivation::relu || residual,
                          .d_gate = d_gate};
          check<TestType>({.counts = ragged, .pixels = 7, .channels = 5}, form);
          check<TestType>({.counts = ragged, .left = 1, .pixels = 150, .channels = 24}, form);
        }
  for (const unsigned one : {1u, 2u, 4u, 8u, 16u})
    for (const bool d_gate : {true, false})
      check<TestType>({.counts = ragged, .pixels = 5, .channels = 16, .shifted = one},
                      {.d_gate = d_gate});
  check<TestType>({.counts = {1}, .pixels = 1, .channels = 1}, {});
  check<TestType>({.counts = {0, 0}, .pixels = 3, .channels = 4}, {});
  check<TestType>({.counts = {}, .left = 2, .pixels = 3, .channels = 4}, {});
  check<TestType>({.counts = {1, 1}, .pixels = 2, .channels = 5000}, {});
}

TEST_CASE("cuda: conv_epilogue_grad, an image's gradient has the same bits in any batch",
          "[cuda][conv_epilogue_grad]") {
  const Shape all{.counts = {3}, .pixels = 300, .channels = 12},
      one{.counts = {1}, .pixels = 300, .channels = 12};
  Operands<float> in(all);
  const Gradients<float> together = on_device(all, {}, in);
  REQUIRE(same_bits(on_device(all, {}, in).d_gate, together.d_gate));
  for (auto* values : {&in.d_y, &in.y, &in.residual})
    values->erase(values->begin(), values->begin() + ptrdiff_t(2 * all.image()));
  REQUIRE(on_device(one, {}, in).d_gate[0] == together.d_gate[2]);
}

TEMPLATE_TEST_CASE("cuda: conv_epilogue_grad, d_gate has the same bits wherever d_pre goes",
                   "[cuda][conv_epilogue_grad]", double, float, Bf16) {
  Shape s{.counts = {5}, .pixels = 200, .channels = 16};
  const Operands<TestType> in(s);
  for (Form form : {Form{}, Form{.activation = ConvActivation::none, .residual = false}}) {
    s.shifted = 0;
    const auto d_gate = on_device(s, form, in).d_gate;
    s.shifted = 16;
    REQUIRE(same_bits(on_device(s, form, in).d_gate, d_gate));
    form.d_pre = form.activation == ConvActivation::relu;  // nobody asks for what is d_y
    REQUIRE(same_bits(on_device(s, form, in).d_gate, d_gate));
  }
}

TEST_CASE("cuda: conv_epilogue_grad: the relu stops the gradient at NaN, offsets may be anything",
          "[cuda][conv_epilogue_grad]") {
  const Shape images{.counts = {1, 1}, .pixels = 3, .channels = 4};
  Operands<float> in(images);
  in.y[5] = std::numeric_limits<float>::quiet_NaN();
  const Gradients<float> out = on_device(images, {}, in);
  for (size_t i = 0; i < in.y.size(); ++i)
    REQUIRE(out.d_pre[i] == (in.y[i] > 0 ? in.d_y[i] : 0.0f));
  REQUIRE(std::isnan(out.d_gate[0]));
  REQUIRE(std::isfinite(out.d_gate[1]));

  for (const auto& wild :
       {std::vector<int32_t>{5, -7, 0x7fffffff, 0, -1}, {-3, -2, -1, -1, -1}, {9, 9, 9, 9, 9}}) {
    const DeviceArray<float> d_y(in.d_y), y(in.y), d_pre(in.y.size()), d_gate(2),
        bias(std::vector<float>(4 * 4, 1.0f));
    const DeviceArray<int32_t> offsets(wild);
    REQUIRE(run<ConvEpilogueGrad>(conv_epilogue_grad, {.d_y = d_y.data(),
                                                       .y = y.data(),
                                                       .bias = bias.data(),
                                                       .d_pre = d_pre.data(),
                                                       .d_gate = d_gate.data(),
                                                       .offsets = offsets.data(),
                                                       .n = 2,
                                                       .segments = 4,
                                                       .pixels = 3,
                                                       .channels = 4,
                                                       .activation = ConvActivation::relu,
                                                       .dtype = Dtype::f32}) == Status::ok);
    REQUIRE(std::isfinite(d_gate.host()[1]));
  }
}

TEST_CASE("cuda: conv_epilogue_grad refuses what the CPU refuses before any launch",
          "[cuda][conv_epilogue_grad]") {
  const int32_t offsets[] = {0, 1};
  const float value = 0;
  float out = 0;
  const ConvEpilogueGrad legal{.bias = &value,
                               .d_pre = &out,
                               .offsets = offsets,
                               .n = 1,
                               .segments = 1,
                               .pixels = 1,
                               .channels = 1,
                               .activation = ConvActivation::relu,
                               .dtype = Dtype::i32};
  REQUIRE(conv_epilogue_grad(Cuda{}, legal) == Status::unsupported);
  ConvEpilogueGrad a = legal;
  a.n = -1;
  REQUIRE(conv_epilogue_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.offsets = nullptr;
  REQUIRE(conv_epilogue_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.d_pre = nullptr;
  REQUIRE(conv_epilogue_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.channels = 0;
  REQUIRE(conv_epilogue_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.n = 2;  // the segments end at 1
  REQUIRE(conv_epilogue_grad(Cpu{}, a) == Status::bad_args);
}

}  // namespace moat::tests
