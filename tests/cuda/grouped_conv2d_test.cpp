#include "kernels/experts/grouped_conv2d.h"

#include "kernels/experts/grouped_conv2d/sm80.h"
#include "kernels/library/context.h"
#include "tests/cuda/conv_case.h"

namespace moat::tests {

using namespace kernels;
using sm80::Extent;

namespace {

// Who multiplies: what the contract chooses for this chip, or the products by mma.sync in tiles of
// 64 or 128, which take filters in the images' format.
enum class Way { contract, small, large };

// The filters on the device, in the form that the case and the way want.
template <class T>
struct DeviceFilters {
  FilterForm form;
  DeviceArray<compute_t<T>> krsc;
  DeviceArray<T> packed;

  DeviceFilters(const ConvCase& s, const ConvInputs<T>& in, Way way)
      : form(way == Way::contract || sizeof(T) == 8 ? s.form : FilterForm::packed),
        krsc(in.filters),
        packed(in.packed(s)) {}
  const void* data() const {
    return form == FilterForm::packed ? static_cast<const void*>(packed.data()) : krsc.data();
  }
};

template <class Args>
Status run_way(Way way, const ConvCase& s, const Args& args, Status (*kernel)(Cuda, const Args&),
               size_t (*workspace)(Cuda, const Args&)) {
  Context context;
  context.set_precision(s.precision);
  const DeviceArray<char> scratch(workspace(Cuda{}, args));
  const Cuda on{
      .context = &context, .workspace = scratch.data(), .workspace_bytes = workspace(Cuda{}, args)};
  Status status = Status::ok;
  if (way == Way::contract) {
    status = kernel(on, args);
  } else {
    const ConvProduct product = conv_product(args, s.precision);
    const Extent extent = way == Way::large ? Extent::large : Extent::small;
    REQUIRE(sm80::can_run(product, extent));
    status = sm80::run(on, product, extent);
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}

template <class T>
std::vector<T> forward(const ConvCase& s, const ConvInputs<T>& in, Way way) {
  const DeviceArray<T> x(in.x), residual(in.residual), y(size_t(s.n()) * s.y_size());
  const DeviceArray<compute_t<T>> bias(in.bias);
  const DeviceArray<int32_t> offsets(s.offsets());
  const DeviceFilters<T> filters(s, in, way);
  const GroupedConv2d args{.x = x.data(),
                           .filters = filters.data(),
                           .bias = s.with_bias ? bias.data() : nullptr,
                           .residual = s.with_residual ? residual.data() : nullptr,
                           .y = y.data(),
                           .offsets = s.given(offsets),
                           .n = s.n(),
                           .experts = s.experts(),
                           .geometry = geometry_of<T>(s),
                           .form = filters.form,
                           .activation = s.activation};
  REQUIRE(run_way(way, s, args, grouped_conv2d, grouped_conv2d_workspace) == Status::ok);
  return y.host();
}

template <class T>
std::vector<T> input_grad(const ConvCase& s, const ConvInputs<T>& in, Way way) {
  const DeviceArray<T> d_y(in.d_y), added(in.added), x(in.x), d_x(size_t(s.n()) * s.x_size());
  const DeviceArray<int32_t> offsets(s.offsets());
  const DeviceFilters<T> filters(s, in, way);
  const GroupedConv2dInputGrad args{
      .d_y = d_y.data(),
      .filters = filters.data(),
      .added = s.with_residual ? added.data() : nullptr,
      .mask = s.activation == ConvActivation::relu ? x.data() : nullptr,
      .d_x = d_x.data(),
      .offsets = s.given(offsets),
      .n = s.n(),
      .experts = s.experts(),
      .geometry = geometry_of<T>(s),
      .form = filters.form};
  REQUIRE(run_way(way, s, args, grouped_conv2d_input_grad, grouped_conv2d_input_grad_workspace) ==
          Status::ok);
  return d_x.host();
}

template <class T>
void check_products(const ConvCase& s, Way way = Way::contract) {
  INFO(said(s, sizeof(T)) << ", way " << int(way));
  const ConvInputs<T> in(s, random_values);
  const double error = conv_error<T>(s.precision), rounding = 1.01 * conv_rounding<T>();
  require_near(forward(s, in, way), forward_reference(s, in), error, rounding);
  require_near(input_grad(s, in, way), input_grad_reference(s, in), error, rounding);
  // For bfloat16 the contract may have another choice.
  if (sizeof(T) == 2 && way == Way::contract) check_products<T>(s, Way::small);
}

// Small integers: every sum is exact in every format, whatever the order.
template <class T>
void check_exact(const ConvCase& s, Way way) {
  INFO(said(s, sizeof(T)) << ", way " << int(way));
  const ConvInputs<T> in(s, integer_values);
  require_near(forward(s, in, way), forward_reference(s, in), 0, conv_rounding<T>());
  require_near(input_grad(s, in, way), input_grad_reference(s, in), 0, conv_rounding<T>());
}
template <class T>
std::vector<T> image(const std::vector<T>& images, int i, size_t size) {
  const auto first = images.begin() + std::ptrdiff_t(size_t(i) * size);
  return {first, first + std::ptrdiff_t(size)};
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: grouped_conv2d and its input gradient equal the CPU's in float64",
                   "[cuda][grouped_conv2d][grouped_conv2d_sm80]", double, float, Bf16) {
  for (const ConvCase& s : conv_cases()) check_products<TestType>(s);
}

TEMPLATE_TEST_CASE("cuda: grouped_conv2d with bias, residual, activation and packed filters",
                   "[cuda][grouped_conv2d]", double, float, Bf16) {
  for (const int channels : {8, 9})
    for (const bool residual : {false, true}) {
      ConvCase s{.counts = {2, 0, 1},
                 .left = 1,
                 .geometry = square(4, channels, channels, 3, 1, 1),
                 .with_bias = !residual || channels == 8,
                 .with_residual = residual,
                 .activation = channels == 8 ? ConvActivation::relu : ConvActivation::none};
      check_products<TestType>(s);
      if (sizeof(TestType) == 8) continue;
      s.form = FilterForm::packed;
      s.activation = ConvActivation::relu;
      check_products<TestType>(s);
    }
}

TEMPLATE_TEST_CASE("cuda: grouped_conv2d in tiles of 128", "[cuda][grouped_conv2d]", float, Bf16) {
  ConvCase s{.counts = {6, 0, 1},
             .left = 1,
             .geometry = square(5, 8, 136, 3, 1, 1),
             .with_residual = true,
             .activation = ConvActivation::relu};
  check_exact<TestType>(s, Way::large);
  s.geometry = square(6, 136, 8, 2, 2, 0);
  check_exact<TestType>(s, Way::large);
  check_products<TestType>({.counts = {1, 0, 2}, .geometry = square(7, 24, 16, 3, 1, 1)},
                           Way::large);
}

TEMPLATE_TEST_CASE("cuda: grouped_conv2d is exact on small integers", "[cuda][grouped_conv2d]",
                   double, float, Bf16) {
  for (const int stride : {1, 2}) {
    const ConvCase s{.counts = {1, 0, 2}, .left = 1, .geometry = square(5, 16, 8, 3, stride, 1)};
    check_exact<TestType>(s, Way::contract);
    if (sizeof(TestType) == 2) check_exact<TestType>(s, Way::small);
  }
}

TEST_CASE("cuda: grouped_conv2d in plain tf32", "[cuda][grouped_conv2d]") {
  ConvCase s{.counts = {1, 2}, .geometry = square(5, 12, 20, 3, 1, 1)};
  s.precision = Precision::tf32;
  for (const Way way : {Way::contract, Way::small, Way::large}) {
    check_products<float>(s, way);
    check_exact<float>(s, way);
  }
  s.geometry = square(5, 3, 5, 3, 1, 1);
  check_products<float>(s);
  // It is the context that asks for it: the bits differ.
  const ConvInputs<float> in(s, random_values);
  const auto rounded = forward(s, in, Way::contract);
  s.precision = Precision::float32;
  REQUIRE(!equal_bits(rounded, forward(s, in, Way::contract)));
}

TEMPLATE_TEST_CASE("cuda: an image of grouped_conv2d has the same bits in any batch",
                   "[cuda][grouped_conv2d]", float, Bf16) {
  for (const Way way : {Way::contract, Way::small})
    for (const int stride : {1, 2}) {
      const ConvCase s{.counts = {2, 3, 1}, .geometry = square(4, 8, 24, 3, stride, 1)};
      const ConvInputs<TestType> in(s, random_values);
      const auto y = forward(s, in, way), d_x = input_grad(s, in, way);
      REQUIRE(equal_bits(y, forward(s, in, way)));  // a second run
      REQUIRE(equal_bits(d_x, input_grad(s, in, way)));
      if (way == Way::small) {
        REQUIRE(equal_bits(y, forward(s, in, Way::large)));  // other tiles
        REQUIRE(equal_bits(d_x, input_grad(s, in, Way::large)));
      }
      ConvCase alone = s;
      alone.counts = {0, 1, 0};
      ConvInputs<TestType> one = in;
      one.x = image(in.x, 3, s.x_size());
      one.d_y = image(in.d_y, 3, s.y_size());
      REQUIRE(equal_bits(image(y, 3, s.y_size()), forward(alone, one, way)));
      REQUIRE(equal_bits(image(d_x, 3, s.x_size()), input_grad(alone, one, way)));
    }
}

TEMPLATE_TEST_CASE("cuda: grouped_conv2d keeps NaN, in relu too, and infinities in their images",
                   "[cuda][grouped_conv2d]", double, float, Bf16) {
  ConvCase s{.counts = {1, 1, 1}, .geometry = square(3, 8, 8, 3, 1, 1)};
  ConvInputs<TestType> in(s, random_values);
  std::fill_n(in.x.begin() + std::ptrdiff_t(s.x_size()), 8, TestType(NAN));
  std::fill_n(in.d_y.begin() + std::ptrdiff_t(s.y_size()), 8, TestType(INFINITY));
  const auto d_x = widened(input_grad(s, in, Way::contract));
  s.activation = ConvActivation::relu;
  const auto y = widened(forward(s, in, Way::contract)),
             masked = widened(input_grad(s, in, Way::contract)), x = widened(in.x);
  for (size_t i = 0; i < y.size(); ++i) {
    // Pixels (0 or 1, 0 or 1) of the second image touch its first.
    const size_t pixel = i / 8 % 9;
    const bool touched = i / 72 == 1 && pixel / 3 < 2 && pixel % 3 < 2;
    REQUIRE(std::isnan(y[i]) == touched);
    REQUIRE(std::isfinite(d_x[i]) == !touched);
    if (x[i] <= 0)  // NaN is not
      REQUIRE(masked[i] == 0);
    else if (std::isfinite(d_x[i]))
      REQUIRE(masked[i] == d_x[i]);
    else
      REQUIRE(!std::isfinite(masked[i]));
  }
}

TEST_CASE("cuda: grouped_conv2d takes images that are not aligned", "[cuda][grouped_conv2d]") {
  const ConvCase s{.counts = {1, 2}, .geometry = square(4, 8, 8, 3, 1, 1)};
  const ConvInputs<Bf16> in(s, random_values);
  std::vector<Bf16> shifted(1);
  shifted.insert(shifted.end(), in.x.begin(), in.x.end());
  const DeviceArray<Bf16> x(shifted), y(in.d_y.size() + 1);
  const DeviceArray<float> filters(in.filters), bias(in.bias);
  const DeviceArray<int32_t> offsets(s.offsets());
  const GroupedConv2d args{.x = x.data() + 1,
                           .filters = filters.data(),
                           .bias = bias.data(),
                           .residual = nullptr,
                           .y = y.data() + 1,
                           .offsets = offsets.data(),
                           .n = s.n(),
                           .experts = s.experts(),
                           .geometry = geometry_of<Bf16>(s),
                           .form = FilterForm::krsc,
                           .activation = ConvActivation::none};
  REQUIRE(run<GroupedConv2d>(grouped_conv2d, args, grouped_conv2d_workspace(Cuda{}, args)) ==
          Status::ok);
  std::vector<Bf16> got = y.host();
  got.erase(got.begin());
  require_near(got, forward_reference(s, in), conv_error<Bf16>(s.precision),
               1.01 * conv_rounding<Bf16>());
}

TEST_CASE("cuda: grouped_conv2d pulls offsets into the batch", "[cuda][grouped_conv2d]") {
  const std::vector<float> ones(4, 1);
  const DeviceArray<float> x(ones), filters(std::vector<float>{2, 3}), y(4);
  const DeviceArray<int32_t> offsets(std::vector<int32_t>{-5, 2, 1 << 30});
  REQUIRE(run<GroupedConv2d>(grouped_conv2d, {.x = x.data(),
                                              .filters = filters.data(),
                                              .bias = nullptr,
                                              .residual = nullptr,
                                              .y = y.data(),
                                              .offsets = offsets.data(),
                                              .n = 4,
                                              .experts = 2,
                                              .geometry = {1, 1, 1, 1, 1, 1, 1, 0, Dtype::f32},
                                              .form = FilterForm::krsc,
                                              .activation = ConvActivation::none}) == Status::ok);
  REQUIRE(y.host() == std::vector<float>{2, 2, 3, 3});
}

TEST_CASE("cuda: grouped_conv2d refuses what the host can see before any launch",
          "[cuda][grouped_conv2d]") {
  const int32_t offsets[2] = {0, 1};
  const GroupedConv2d legal{.x = nullptr,
                            .filters = nullptr,
                            .bias = nullptr,
                            .residual = nullptr,
                            .y = nullptr,
                            .offsets = offsets,
                            .n = 1,
                            .experts = 1,
                            .geometry = square(4, 8, 8, 3, 1, 1),
                            .form = FilterForm::krsc,
                            .activation = ConvActivation::none};
  const auto status = [&](auto&& change) {
    GroupedConv2d a = legal;
    change(a);
    return grouped_conv2d(Cuda{}, a);
  };
  CHECK(status([](auto& a) { a.offsets = nullptr, a.experts = 2; }) == Status::bad_args);
  CHECK(status([](auto& a) { a.n = -1; }) == Status::bad_args);
  CHECK(status([](auto& a) { a.geometry.stride = 0; }) == Status::bad_args);
  CHECK(status([](auto& a) { a.geometry.r = 7; }) == Status::bad_args);
  CHECK(status([](auto& a) { a.geometry.dtype = Dtype::i32; }) == Status::bad_args);
  CHECK(status([](auto& a) { a.form = FilterForm::packed; }) == Status::bad_args);  // float64
  CHECK(status([](auto& a) { a.geometry.dtype = Dtype::bf16; }) == Status::small_workspace);
  CHECK(status([](auto& a) { a.n = 1 << 28; }) == Status::unsupported);
}

}  // namespace moat::tests
