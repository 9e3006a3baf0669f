#include "kernels/vision/conv_gate_grad.h"

#include <cmath>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

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
  bool bias = true, residual = true;
};

template <class T>
struct Operands {
  std::vector<T> d_pre, y, residual;
  std::vector<compute_t<T>> bias;

  explicit Operands(const Shape& s)
      : d_pre(rounded<T>(normals(s.size(), 1))),
        y(rounded<T>(normals(s.size(), 4))),
        residual(rounded<T>(normals(s.size(), 2))),
        bias(rounded<compute_t<T>>(normals(size_t(s.segments()) * size_t(s.channels), 3))) {}
};

template <class T>
std::vector<compute_t<T>> on_device(const Shape& s, const Form& form, const Operands<T>& in) {
  using C = compute_t<T>;
  const DeviceArray<T> d_pre(shifted(in.d_pre, s.offset(0))), y(shifted(in.y, s.offset(1))),
      residual(shifted(in.residual, s.offset(2)));
  const DeviceArray<C> bias(shifted(in.bias, s.offset(3))), d_gate(size_t(s.n()));
  const DeviceArray<int32_t> offsets(s.offsets());
  const ConvGateGrad args{.d_pre = d_pre.data() + s.offset(0),
                          .y = y.data() + s.offset(1),
                          .residual = form.residual ? residual.data() + s.offset(2) : nullptr,
                          .bias = form.bias ? bias.data() + s.offset(3) : nullptr,
                          .d_gate = d_gate.data(),
                          .offsets = form.bias ? offsets.data() : nullptr,
                          .n = s.n(),
                          .segments = s.segments(),
                          .pixels = s.pixels,
                          .channels = s.channels,
                          .dtype = dtype_of<T>};
  REQUIRE(run<ConvGateGrad>(conv_gate_grad, args) == Status::ok);
  return d_gate.host();
}

template <class T>
void check(const Shape& s, const Form& form) {
  INFO("conv_gate_grad of " << s.n() << " images [" << s.pixels << ", " << s.channels
                            << "], shifted " << s.shifted);
  const Operands<T> in(s);
  const auto got = on_device(s, form, in);
  const std::vector<double> d_pre = widened(in.d_pre), y = widened(in.y),
                            residual = widened(in.residual);
  // Images behind the last segment are one without bias for the CPU.
  std::vector<double> bias = widened(in.bias);
  bias.resize(bias.size() + size_t(s.channels));
  std::vector<int32_t> offsets = s.offsets();
  offsets.push_back(s.n());
  std::vector<double> d_gate(size_t(s.n()));
  REQUIRE(conv_gate_grad(Cpu{}, {.d_pre = d_pre.data(),
                                 .y = y.data(),
                                 .residual = form.residual ? residual.data() : nullptr,
                                 .bias = form.bias ? bias.data() : nullptr,
                                 .d_gate = d_gate.data(),
                                 .offsets = offsets.data(),
                                 .n = s.n(),
                                 .segments = s.segments() + 1,
                                 .pixels = s.pixels,
                                 .channels = s.channels,
                                 .dtype = Dtype::f64}) == Status::ok);
  // An image's sum of terms of about 2 in magnitude, a few to a thread.
  const double tolerance = 4 * roundoff<compute_t<T>> * (1 + static_cast<double>(s.image()));
  for (size_t i = 0; i < d_gate.size(); ++i) {
    INFO("image " << i << ": " << double{got[i]} << ", reference " << d_gate[i]);
    REQUIRE(std::abs(got[i] - d_gate[i]) <= tolerance);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: conv_gate_grad equals its float64 reference", "[cuda][conv_gate_grad]",
                   double, float, Bf16) {
  const std::vector<int32_t> ragged{0, 2, 0, 1, 0};
  for (const bool bias : {true, false})
    for (const bool residual : {true, false}) {
      const Form form{.bias = bias, .residual = residual};
      check<TestType>({.counts = ragged, .pixels = 7, .channels = 5}, form);
      check<TestType>({.counts = ragged, .left = 1, .pixels = 150, .channels = 24}, form);
    }
  for (const unsigned one : {1u, 2u, 4u, 8u})
    check<TestType>({.counts = ragged, .pixels = 5, .channels = 16, .shifted = one}, {});
  check<TestType>({.counts = {1}, .pixels = 1, .channels = 1}, {});
  check<TestType>({.counts = {0, 0}, .pixels = 3, .channels = 4}, {});
  check<TestType>({.counts = {}, .left = 2, .pixels = 3, .channels = 4}, {});
  check<TestType>({.counts = {1, 1}, .pixels = 2, .channels = 5000}, {});
}

TEST_CASE("cuda: conv_gate_grad, an image's gradient has the same bits in any batch",
          "[cuda][conv_gate_grad]") {
  const Shape all{.counts = {3}, .pixels = 300, .channels = 12},
      one{.counts = {1}, .pixels = 300, .channels = 12};
  Operands<float> in(all);
  const std::vector<float> together = on_device(all, {}, in);
  REQUIRE(same_bits(on_device(all, {}, in), together));
  for (auto* values : {&in.d_pre, &in.y, &in.residual})
    values->erase(values->begin(), values->begin() + ptrdiff_t(2 * all.image()));
  REQUIRE(on_device(one, {}, in)[0] == together[2]);
}

TEST_CASE("cuda: conv_gate_grad: NaN stays with its image, offsets may be anything",
          "[cuda][conv_gate_grad]") {
  const Shape images{.counts = {1, 1}, .pixels = 3, .channels = 4};
  Operands<float> in(images);
  in.y[5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> out = on_device(images, {}, in);
  REQUIRE(std::isnan(out[0]));
  REQUIRE(std::isfinite(out[1]));

  for (const auto& wild :
       {std::vector<int32_t>{5, -7, 0x7fffffff, 0, -1}, {-3, -2, -1, -1, -1}, {9, 9, 9, 9, 9}}) {
    const DeviceArray<float> d_pre(in.d_pre), y(in.y), d_gate(2),
        bias(std::vector<float>(4 * 4, 1.0f));
    const DeviceArray<int32_t> offsets(wild);
    REQUIRE(run<ConvGateGrad>(conv_gate_grad, {.d_pre = d_pre.data(),
                                               .y = y.data(),
                                               .bias = bias.data(),
                                               .d_gate = d_gate.data(),
                                               .offsets = offsets.data(),
                                               .n = 2,
                                               .segments = 4,
                                               .pixels = 3,
                                               .channels = 4,
                                               .dtype = Dtype::f32}) == Status::ok);
    REQUIRE(std::isfinite(d_gate.host()[1]));
  }
}

TEST_CASE("cuda: conv_gate_grad refuses what the CPU refuses before any launch",
          "[cuda][conv_gate_grad]") {
  const int32_t offsets[] = {0, 1};
  const float value = 0;
  float out = 0;
  const ConvGateGrad legal{.bias = &value,
                           .d_gate = &out,
                           .offsets = offsets,
                           .n = 1,
                           .segments = 1,
                           .pixels = 1,
                           .channels = 1,
                           .dtype = Dtype::i32};
  REQUIRE(conv_gate_grad(Cuda{}, legal) == Status::unsupported);
  ConvGateGrad a = legal;
  a.n = -1;
  REQUIRE(conv_gate_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.offsets = nullptr;
  REQUIRE(conv_gate_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.channels = 0;
  REQUIRE(conv_gate_grad(Cuda{}, a) == Status::bad_args);
  a = legal;
  a.n = 2;  // the segments end at 1
  REQUIRE(conv_gate_grad(Cpu{}, a) == Status::bad_args);
}

}  // namespace moat::tests
