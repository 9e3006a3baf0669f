#include "kernels/experts/grouped_conv2d/sm80.h"
#include "kernels/library/context.h"
#include "tests/cuda/conv_case.h"

namespace moat::tests {

using namespace kernels;
using sm80::Extent;

namespace {

// How a weight gradient is summed: 0 splits, as the contract chooses.
struct Choice {
  Extent extent = Extent::small;
  int splits = 0;
};

template <class T>
std::vector<compute_t<T>> weight_grad(const ConvCase& s, const ConvInputs<T>& in, Choice choice) {
  const DeviceArray<T> x(in.x), d_y(in.d_y);
  const DeviceArray<int32_t> offsets(s.offsets());
  const DeviceArray<compute_t<T>> d_filters(s.counts.size() * s.filter_size());
  const GroupedConv2dWeightGrad args{.x = x.data(),
                                     .d_y = d_y.data(),
                                     .d_filters = d_filters.data(),
                                     .offsets = s.given(offsets),
                                     .n = s.n(),
                                     .experts = s.experts(),
                                     .geometry = geometry_of<T>(s)};
  Context context;
  context.set_precision(s.precision);
  const size_t bytes = choice.splits == 0 ? grouped_conv2d_weight_grad_workspace(Cuda{}, args)
                                          : sm80::workspace(args, choice.splits);
  const DeviceArray<char> scratch(bytes);
  const Cuda on{.context = &context, .workspace = scratch.data(), .workspace_bytes = bytes};
  if (choice.splits == 0) {
    REQUIRE(grouped_conv2d_weight_grad(on, args) == Status::ok);
  } else {
    REQUIRE(sm80::can_run(args, choice.extent, s.precision));
    REQUIRE(sm80::run(on, args, choice.extent, s.precision, choice.splits) == Status::ok);
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return d_filters.host();
}

template <class T>
void check_weight_grad(const ConvCase& s, Choice choice = {}) {
  INFO(said(s, sizeof(T)) << ", splits " << choice.splits);
  const ConvInputs<T> in(s, random_values);
  require_near(weight_grad(s, in, choice), weight_grad_reference(s, in), conv_error<T>(s.precision),
               0);
  if (sizeof(T) == 2 && choice.splits == 0) check_weight_grad<T>(s, {.splits = 1});
}

// Small integers: every sum is exact in every format, whatever the order.
template <class T>
void check_exact(const ConvCase& s, Choice choice) {
  INFO(said(s, sizeof(T)) << ", splits " << choice.splits);
  const ConvInputs<T> in(s, integer_values);
  require_near(weight_grad(s, in, choice), weight_grad_reference(s, in), 0, 0);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: grouped_conv2d_weight_grad equals the CPU's in float64",
                   "[cuda][grouped_conv2d]", double, float, Bf16) {
  for (const ConvCase& s : conv_cases()) check_weight_grad<TestType>(s);
  for (const int stride : {1, 2})
    check_exact<TestType>(
        {.counts = {1, 0, 2}, .left = 1, .geometry = square(5, 16, 8, 3, stride, 1)}, Choice{});
}

TEST_CASE("cuda: grouped_conv2d_weight_grad in plain tf32", "[cuda][grouped_conv2d]") {
  for (const int channels : {12, 3})
    check_weight_grad<float>({.counts = {1, 2},
                              .geometry = square(5, channels, 20, 3, 1, 1),
                              .precision = Precision::tf32});
}

TEMPLATE_TEST_CASE("cuda: grouped_conv2d_weight_grad in pieces, added in order",
                   "[cuda][grouped_conv2d]", float, Bf16) {
  for (const int splits : {2, 5}) {
    const ConvCase s{.counts = {0, 3, 1, 0, 2}, .left = 1, .geometry = square(6, 8, 9, 3, 1, 1)};
    const Choice choice{.splits = splits};
    check_weight_grad<TestType>(s, choice);
    check_exact<TestType>(s, choice);
    check_exact<TestType>(
        {.counts = {4}, .geometry = square(6, 8, 9, 3, 1, 1), .with_offsets = false}, choice);
    const ConvInputs<TestType> in(s, random_values);
    REQUIRE(equal_bits(weight_grad(s, in, choice), weight_grad(s, in, choice)));
  }
}

TEST_CASE("cuda: grouped_conv2d_weight_grad in tiles of 128", "[cuda][grouped_conv2d]") {
  for (const int splits : {1, 2}) {
    ConvCase s{.counts = {2, 0, 1}, .left = 1, .geometry = square(5, 16, 136, 3, 2, 1)};
    const Choice choice{.extent = Extent::large, .splits = splits};
    check_exact<Bf16>(s, choice);
    s.precision = Precision::tf32;
    check_weight_grad<float>(s, choice);
  }
}

TEST_CASE("cuda: grouped_conv2d splits the weight gradient of many pixels only",
          "[cuda][grouped_conv2d]") {
  GroupedConv2dWeightGrad a{};
  a.n = 64, a.experts = 1;
  a.geometry = {32, 32, 8, 8, 3, 3, 1, 1, Dtype::bf16};
  CHECK(sm80::splits(a) > 1);
  CHECK(sm80::workspace(a, 3) == 2 * 8 * 72 * sizeof(float));
  a.geometry.height = a.geometry.width = 2;
  CHECK(sm80::splits(a) == 1);
  CHECK(sm80::workspace(a, 1) == 0);
}

}  // namespace moat::tests
