#include "kernels/vision/conv2d.h"

#include <cstring>

#include "kernels/experts/grouped_conv2d.h"
#include "tests/cuda/conv2d_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

// The tests of float64, our own kernels, have the tag of conv2d_f64 alone: planted bugs there must
// be seen, and the libraries' plans take no part.

Conv2dGeometry square(int side, int c_in, int c_out, int taps, int stride, int padding) {
  return {side, side, c_in, c_out, taps, taps, stride, padding, Dtype::f64};
}

std::vector<Conv2dCase> cases() {
  return {
      {3, square(5, 8, 16, 3, 1, 1)},  // channels in eights
      {2, square(4, 3, 5, 3, 1, 1)},   // odd channels
      {2, square(6, 7, 9, 1, 1, 0)},   // one tap
      {2, square(5, 16, 8, 1, 2, 0)},  // pixels without taps
      {3, square(6, 8, 8, 3, 2, 1)},   // stride 2
      {2, square(7, 5, 6, 3, 2, 1)},   // and odd channels
      {1, {5, 8, 8, 8, 5, 5, 1, 2, Dtype::f64}},
      {2, {4, 7, 4, 9, 2, 3, 3, 1, Dtype::f64}},  // a filter, images that are no squares
      {2, {1, 1, 8, 8, 3, 3, 2, 1, Dtype::f64}},  // a pixel
  };
}

template <class T>
void check(Context& context, const Conv2dCase& s) {
  const Conv2dGeometry& g = s.geometry;
  INFO("conv2d of " << s.n << " images " << g.height << " x " << g.width << ", channels " << g.c_in
                    << " to " << g.c_out << ", filter " << g.r << " x " << g.s << ", stride "
                    << g.stride << ", padding " << g.padding << ", bias " << s.with_bias
                    << ", residual " << s.with_residual << ", relu " << int(s.activation)
                    << ", packed " << int(s.form) << ", shift " << s.shift << ", bytes "
                    << sizeof(T) << ", tf32 " << int(s.precision));
  const Conv2dOperands<T> in(s);
  const WideOperands wide(in), scale = wide.magnitudes();
  Conv2dCase linear = s;
  linear.activation = ConvActivation::none;
  const int64_t taps = int64_t{g.r} * g.s;
  {
    INFO("forward");
    require_near<T>(s, forward(context, s, in), forward(s, wide), forward(linear, scale),
                    taps * g.c_in);
  }
  {
    INFO("input gradient");
    require_near<T>(s, input_grad(context, s, in), input_grad(s, wide), input_grad(linear, scale),
                    taps * g.c_out);
  }
  const auto d_filter = weight_grad(context, s, in);
  const auto right = weight_grad(s, wide), magnitude = weight_grad(s, scale);
  const int64_t pixels = int64_t{s.n} * g.out_height() * g.out_width();
  if (g.c_in % 8 == 0 && g.c_out % 8 == 0 && s.shift == 0)  // not the library's: not rounded
    require_near<compute_t<T>>(s, d_filter, right, magnitude, pixels);
  else
    require_near<T>(s, d_filter, right, magnitude, pixels);
}

template <class T>
void check_all(Precision precision = Precision::float32) {
  Context context;
  for (Conv2dCase s : cases()) {
    s.precision = precision;
    check<T>(context, s);
    s.with_residual = true;
    s.activation = ConvActivation::relu;
    check<T>(context, s);
    s.with_bias = false;
    s.activation = ConvActivation::none;
    if (sizeof(T) != 8) s.form = FilterForm::packed;
    s.shift = 1;
    check<T>(context, s);
  }
}

template <class T>
bool equal_bits(const std::vector<T>& a, const T* b) {
  return std::memcmp(a.data(), b, a.size() * sizeof(T)) == 0;
}

// Every image alone, and in a batch of another size at another place.
template <class T>
void check_batches(Precision precision = Precision::float32) {
  Context context;
  for (const Conv2dGeometry& g : {square(4, 8, 16, 3, 1, 1), square(5, 3, 5, 3, 2, 1)}) {
    INFO("batches of " << g.height << " x " << g.width << ", bytes " << sizeof(T));
    // 31 images run as 16 and 16, of which one is both.
    Conv2dCase s{.n = 31, .geometry = g, .with_residual = true, .activation = ConvActivation::relu};
    s.precision = precision;
    const Conv2dOperands<T> in(s);
    const std::vector<T> y = forward(context, s, in), d_x = input_grad(context, s, in);
    REQUIRE(equal_bits(forward(context, s, in), y.data()));
    REQUIRE(equal_bits(weight_grad(context, s, in), weight_grad(context, s, in).data()));
    for (const auto& [first, n] : {std::pair{0, 1}, {5, 1}, {30, 1}, {3, 7}}) {
      INFO("images from " << first << ", " << n);
      Conv2dCase some = s;
      some.n = n;
      const Conv2dOperands<T> part = in.of_images(s, first, n);
      REQUIRE(equal_bits(forward(context, some, part), y.data() + first * g.y_size()));
      REQUIRE(equal_bits(input_grad(context, some, part), d_x.data() + first * g.x_size()));
    }
  }
}

template <class T>
void check_empty() {
  Context context;
  Conv2dCase s{.n = 0, .geometry = square(4, 3, 4, 3, 1, 1)};
  const Conv2dOperands<T> in(s);
  REQUIRE(forward(context, s, in).empty());
  REQUIRE(input_grad(context, s, in).empty());
  for (const auto d : weight_grad(context, s, in)) REQUIRE(d == 0);
}

// Input gradients of layers that training has: too wide for our own kernels, so the library's, with
// what comes behind fused where a plan allows it. And of one image as of two.
template <class T>
void check_training(Precision precision = Precision::float32) {
  Context context;
  for (const Conv2dGeometry& g :
       {square(8, 128, 128, 3, 1, 1), square(8, 128, 256, 3, 2, 1), square(8, 128, 256, 1, 2, 0)})
    for (const auto activation : {ConvActivation::none, ConvActivation::relu})
      for (const bool with_residual : {false, true}) {
        INFO("input gradient of channels " << g.c_in << " to " << g.c_out << ", filter " << g.r
                                           << " x " << g.s << ", stride " << g.stride << ", added "
                                           << with_residual << ", mask " << int(activation));
        Conv2dCase s{
            .n = 2, .geometry = g, .with_residual = with_residual, .activation = activation};
        s.precision = precision;
        const Conv2dOperands<T> in(s);
        const WideOperands wide(in);
        Conv2dCase linear = s;
        linear.activation = ConvActivation::none;
        const std::vector<T> d_x = input_grad(context, s, in);
        require_near<T>(s, d_x, input_grad(s, wide), input_grad(linear, wide.magnitudes()),
                        int64_t{g.r} * g.s * g.c_out);
        const Conv2dOperands<T> second = in.of_images(s, 1, 1);
        s.n = 1;
        REQUIRE(equal_bits(input_grad(context, s, second), d_x.data() + g.x_size()));
      }
}

}  // namespace

TEST_CASE("cuda: conv2d in float64 equals the CPU's", "[cuda][conv2d_f64]") {
  check_all<double>();
  check_batches<double>();
  check_empty<double>();
}

// A test case per format: plans take their time, and test cases can be spread over processes.
TEST_CASE("cuda: conv2d in float32 equals the CPU's in float64", "[cuda][conv2d]") {
  check_all<float>();
}
TEST_CASE("cuda: conv2d in tf32 equals the CPU's in float64", "[cuda][conv2d]") {
  check_all<float>(Precision::tf32);
}
TEST_CASE("cuda: conv2d in bfloat16 equals the CPU's in float64", "[cuda][conv2d]") {
  check_all<Bf16>();
}

TEST_CASE("cuda: conv2d in tf32 in the shapes of training", "[cuda][conv2d]") {
  check_training<float>(Precision::tf32);
}
TEST_CASE("cuda: conv2d in bfloat16 in the shapes of training", "[cuda][conv2d]") {
  check_training<Bf16>();
}

TEST_CASE("cuda: an image of conv2d in float32 has the same bits in any batch", "[cuda][conv2d]") {
  check_batches<float>();
}
TEST_CASE("cuda: an image of conv2d in tf32 has the same bits in any batch", "[cuda][conv2d]") {
  check_batches<float>(Precision::tf32);
}
TEST_CASE("cuda: an image of conv2d in bfloat16 has the same bits in any batch", "[cuda][conv2d]") {
  check_batches<Bf16>();
}

TEST_CASE("cuda: conv2d of no images", "[cuda][conv2d]") {
  check_empty<float>();
  check_empty<Bf16>();
}

TEST_CASE("cuda: a packed filter of conv2d gives the bits of the filter itself", "[cuda][conv2d]") {
  Conv2dCase s{.n = 3, .geometry = square(5, 8, 6, 3, 1, 1)};
  const Conv2dOperands<Bf16> in(s);
  Context context;
  const std::vector<Bf16> y = forward(context, s, in), d_x = input_grad(context, s, in);
  s.form = FilterForm::packed;
  REQUIRE(equal_bits(forward(context, s, in), y.data()));
  REQUIRE(equal_bits(input_grad(context, s, in), d_x.data()));
}

TEST_CASE("cuda: a weight gradient of bfloat16 in eights is grouped_conv2d's of one expert",
          "[cuda][conv2d]") {
  const Conv2dCase s{.n = 2, .geometry = square(24, 8, 16, 3, 1, 1)};  // 1152 pixels: in pieces
  const Conv2dOperands<Bf16> in(s);
  const DeviceArray<Bf16> x(in.x), d_y(in.d_y);
  const DeviceArray<float> d_filter(in.filter.size()), d_filters(in.filter.size());
  const DeviceArray<int32_t> offsets(std::vector<int32_t>{0, s.n});
  const Conv2dWeightGrad args{.x = x.data(),
                              .d_y = d_y.data(),
                              .d_filter = d_filter.data(),
                              .n = s.n,
                              .geometry = geometry_of<Bf16>(s)};
  const GroupedConv2dWeightGrad grouped{.x = x.data(),
                                        .d_y = d_y.data(),
                                        .d_filters = d_filters.data(),
                                        .offsets = offsets.data(),
                                        .n = s.n,
                                        .experts = 1,
                                        .geometry = args.geometry};
  // Without a context, which the library would need.
  const size_t bytes = conv2d_weight_grad_workspace(Cuda{}, args);
  REQUIRE(bytes > 0);
  REQUIRE(bytes == grouped_conv2d_weight_grad_workspace(Cuda{}, grouped));
  REQUIRE(run(conv2d_weight_grad, args, bytes - 1) == Status::small_workspace);
  REQUIRE(run(conv2d_weight_grad, args, bytes) == Status::ok);
  REQUIRE(run(grouped_conv2d_weight_grad, grouped, bytes) == Status::ok);
  REQUIRE(equal_bits(d_filter.host(), d_filters.host().data()));
}

TEST_CASE("cuda: relu behind conv2d makes NaN 0", "[cuda][conv2d]") {
  Context context;
  for (const int c_out : {8, 5}) {  // with the library's epilogue and with our own
    Conv2dCase s{
        .n = 1, .geometry = square(3, 8, c_out, 1, 1, 0), .activation = ConvActivation::relu};
    Conv2dOperands<float> in(s);
    in.x[0] = NAN;  // of the first pixel
    const std::vector<float> y = forward(context, s, in);
    for (int o = 0; o < c_out; ++o) REQUIRE(y[size_t(o)] == 0);
  }
}

TEST_CASE("cuda: calls of conv2d that a graph has recorded", "[cuda][conv2d]") {
  const Conv2dCase s{.n = 2, .geometry = square(5, 8, 6, 3, 1, 1), .with_residual = true};
  const Conv2dOperands<Bf16> in(s);
  Context context;
  const std::vector<Bf16> right = forward(context, s, in);
  const DeviceArray<Bf16> x(in.x.size()), residual(in.residual), y(in.residual.size());
  const DeviceArray<float> bias(in.bias), filter(in.filter);
  const Conv2d args{.x = x.data(),
                    .filter = filter.data(),
                    .bias = bias.data(),
                    .residual = residual.data(),
                    .y = y.data(),
                    .n = s.n,
                    .geometry = geometry_of<Bf16>(s),
                    .form = FilterForm::krsc,
                    .activation = s.activation};
  const size_t bytes = conv2d_workspace(Cuda{.context = &context}, args);  // builds the plan
  const DeviceArray<char> scratch(bytes);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  REQUIRE(conv2d(Cuda{&context, stream, scratch.data(), bytes}, args) == Status::ok);
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  REQUIRE(cudaMemcpy(x.data(), in.x.data(), in.x.size() * sizeof(Bf16), cudaMemcpyHostToDevice) ==
          cudaSuccess);
  REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(equal_bits(y.host(), right.data()));
  REQUIRE(cudaGraphExecDestroy(executable) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}

TEST_CASE("cuda: conv2d refuses what is outside its contract", "[cuda][conv2d]") {
  Context context;
  const DeviceArray<float> memory(64);
  const Conv2d legal{.x = memory.data(),
                     .filter = memory.data(),
                     .y = memory.data(),
                     .n = 1,
                     .geometry = {2, 2, 2, 2, 1, 1, 1, 0, Dtype::f32},
                     .form = FilterForm::krsc};
  const auto refused = [&](auto&& change) {
    Conv2d a = legal;
    change(a);
    return call<Conv2d>(context, conv2d, conv2d_workspace, a);
  };
  REQUIRE(refused([](Conv2d& a) { a.n = -1; }) == Status::bad_args);
  REQUIRE(refused([](Conv2d& a) { a.geometry.stride = 0; }) == Status::bad_args);
  REQUIRE(refused([](Conv2d& a) { a.geometry.r = 3; }) == Status::bad_args);
  REQUIRE(refused([](Conv2d& a) { a.geometry.dtype = Dtype::i32; }) == Status::unsupported);
  REQUIRE(refused([](Conv2d& a) {
            a.geometry.dtype = Dtype::f64;
            a.form = FilterForm::packed;
          }) == Status::bad_args);
  REQUIRE(conv2d(Cuda{}, legal) == Status::bad_args);
  Conv2d half = legal;  // its filter is rounded in the workspace
  half.geometry.dtype = Dtype::bf16;
  REQUIRE(conv2d(Cuda{.context = &context}, half) == Status::small_workspace);
  REQUIRE(conv2d_packed_bytes(Cuda{}, square(4, 2, 2, 1, 1, 0), FilterUse::forward) == 0);
  REQUIRE(conv2d_packed_bytes(Cuda{}, half.geometry, FilterUse::input_grad) == 4 * sizeof(Bf16));
}

}  // namespace moat::tests
