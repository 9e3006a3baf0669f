#include "kernels/vision/conv2d.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/experts/grouped_conv2d.h"
#include "kernels/library/context.h"
#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

// The tests of float64, our own kernels, have the tag of conv2d_f64 alone: planted bugs there must
// be seen, and the libraries' plans take no part.

struct Case {
  int n;
  Conv2dGeometry geometry;
  bool with_bias = true, with_residual = false;  // the input gradient's `added` too
  ConvActivation activation = ConvActivation::none;
  FilterForm form = FilterForm::krsc;
  Precision precision = Precision::float32;
  size_t shift = 0;  // images lie this many values behind an aligned address
};

// A case with a relu has a mask in its input gradient, x.
bool masks(const Case& s) { return s.activation == ConvActivation::relu; }

Conv2dGeometry square(int side, int c_in, int c_out, int taps, int stride, int padding) {
  return {side, side, c_in, c_out, taps, taps, stride, padding, Dtype::f64};
}

std::vector<Case> cases() {
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
struct Operands {
  std::vector<T> x, d_y, residual, added;
  std::vector<compute_t<T>> filter, bias;

  explicit Operands(const Case& s)
      : x(rounded<T>(normals(size_t(s.n * s.geometry.x_size()), 1))),
        d_y(rounded<T>(normals(size_t(s.n * s.geometry.y_size()), 2))),
        residual(rounded<T>(normals(size_t(s.n * s.geometry.y_size()), 3))),
        added(rounded<T>(normals(size_t(s.n * s.geometry.x_size()), 6))),
        filter(rounded<compute_t<T>>(normals(size_t(s.geometry.filter_size()), 4))),
        bias(rounded<compute_t<T>>(normals(size_t(s.geometry.c_out), 5))) {}

  // Images [first, first + n) alone.
  Operands of_images(const Case& s, int first, int n) const {
    Operands part = *this;
    const auto cut = [&](const std::vector<T>& from, int64_t each) {
      return std::vector<T>(from.begin() + first * each, from.begin() + (first + n) * each);
    };
    part.x = cut(x, s.geometry.x_size());
    part.d_y = cut(d_y, s.geometry.y_size());
    part.residual = cut(residual, s.geometry.y_size());
    part.added = cut(added, s.geometry.x_size());
    return part;
  }
};

template <class T>
Conv2dGeometry geometry_of(const Case& s) {
  Conv2dGeometry g = s.geometry;
  g.dtype = dtype_of<T>;
  return g;
}

template <class Args>
Status call(Context& context, Status (*kernel)(Cuda, const Args&),
            size_t (*workspace)(Cuda, const Args&), const Args& args) {
  const size_t bytes = workspace(Cuda{.context = &context}, args);
  const DeviceArray<char> scratch(bytes);
  const Status status =
      kernel({.context = &context, .workspace = scratch.data(), .workspace_bytes = bytes}, args);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}

// A filter in the form of the case.
template <class T>
class DeviceFilter {
 public:
  DeviceFilter(const Case& s, const Operands<T>& in, FilterUse use, Context& context)
      : krsc_(in.filter), packed_(conv2d_packed_bytes(Cuda{}, geometry_of<T>(s), use)) {
    data_ = krsc_.data();
    if (s.form == FilterForm::krsc) return;
    data_ = packed_.data();
    REQUIRE(call<Conv2dPack>(context, conv2d_pack, conv2d_pack_workspace,
                             {.filter = krsc_.data(),
                              .packed = packed_.data(),
                              .geometry = geometry_of<T>(s),
                              .use = use}) == Status::ok);
  }
  const void* data() const { return data_; }

 private:
  DeviceArray<compute_t<T>> krsc_;
  DeviceArray<char> packed_;
  const void* data_;
};

template <class T>
std::vector<T> shifted(const std::vector<T>& values, size_t shift) {
  std::vector<T> out(shift);
  out.insert(out.end(), values.begin(), values.end());
  return out;
}
template <class T>
std::vector<T> without(std::vector<T> values, size_t shift) {
  values.erase(values.begin(), values.begin() + std::ptrdiff_t(shift));
  return values;
}

template <class T>
std::vector<T> forward(const Case& s, const Operands<T>& in) {
  Context context;
  context.set_precision(s.precision);
  const DeviceArray<T> x(shifted(in.x, s.shift)), residual(shifted(in.residual, s.shift)),
      y(in.residual.size() + s.shift);
  const DeviceArray<compute_t<T>> bias(in.bias);
  const DeviceFilter<T> filter(s, in, FilterUse::forward, context);
  REQUIRE(call<Conv2d>(context, conv2d, conv2d_workspace,
                       {.x = x.data() + s.shift,
                        .filter = filter.data(),
                        .bias = s.with_bias ? bias.data() : nullptr,
                        .residual = s.with_residual ? residual.data() + s.shift : nullptr,
                        .y = y.data() + s.shift,
                        .n = s.n,
                        .geometry = geometry_of<T>(s),
                        .form = s.form,
                        .activation = s.activation}) == Status::ok);
  return without(y.host(), s.shift);
}

template <class T>
std::vector<T> input_grad(const Case& s, const Operands<T>& in) {
  Context context;
  context.set_precision(s.precision);
  const DeviceArray<T> d_y(shifted(in.d_y, s.shift)), added(shifted(in.added, s.shift)),
      x(shifted(in.x, s.shift)), d_x(in.x.size() + s.shift);
  const DeviceFilter<T> filter(s, in, FilterUse::input_grad, context);
  REQUIRE(call<Conv2dInputGrad>(context, conv2d_input_grad, conv2d_input_grad_workspace,
                                {.d_y = d_y.data() + s.shift,
                                 .filter = filter.data(),
                                 .added = s.with_residual ? added.data() + s.shift : nullptr,
                                 .mask = masks(s) ? x.data() + s.shift : nullptr,
                                 .d_x = d_x.data() + s.shift,
                                 .n = s.n,
                                 .geometry = geometry_of<T>(s),
                                 .form = s.form}) == Status::ok);
  return without(d_x.host(), s.shift);
}

template <class T>
std::vector<compute_t<T>> weight_grad(const Case& s, const Operands<T>& in) {
  Context context;
  context.set_precision(s.precision);
  const DeviceArray<T> x(shifted(in.x, s.shift)), d_y(shifted(in.d_y, s.shift));
  const DeviceArray<compute_t<T>> d_filter(in.filter.size());
  REQUIRE(call<Conv2dWeightGrad>(context, conv2d_weight_grad, conv2d_weight_grad_workspace,
                                 {.x = x.data() + s.shift,
                                  .d_y = d_y.data() + s.shift,
                                  .d_filter = d_filter.data(),
                                  .n = s.n,
                                  .geometry = geometry_of<T>(s)}) == Status::ok);
  return d_filter.host();
}

// What the CPU computes in float64 of the same operands, rounded as the device gets them.
struct Wide {
  std::vector<double> x, d_y, residual, added, filter, bias;

  template <class T>
  explicit Wide(const Operands<T>& in)
      : x(widened(in.x)),
        d_y(widened(in.d_y)),
        residual(widened(in.residual)),
        added(widened(in.added)),
        filter(widened(in.filter)),
        bias(widened(in.bias)) {
    if constexpr (sizeof(T) == 2)
      for (double& f : filter) f = Bf16(static_cast<float>(f));
  }
  Wide magnitudes() const {
    Wide out = *this;
    for (auto* values : {&out.x, &out.d_y, &out.residual, &out.added, &out.filter, &out.bias})
      for (double& v : *values) v = std::abs(v);
    return out;
  }
};

std::vector<double> forward(const Case& s, const Wide& in) {
  std::vector<double> y(in.residual.size());
  REQUIRE(conv2d(Cpu{}, {.x = in.x.data(),
                         .filter = in.filter.data(),
                         .bias = s.with_bias ? in.bias.data() : nullptr,
                         .residual = s.with_residual ? in.residual.data() : nullptr,
                         .y = y.data(),
                         .n = s.n,
                         .geometry = s.geometry,
                         .form = FilterForm::krsc,
                         .activation = s.activation}) == Status::ok);
  return y;
}
std::vector<double> input_grad(const Case& s, const Wide& in) {
  std::vector<double> d_x(in.x.size());
  REQUIRE(conv2d_input_grad(Cpu{}, {.d_y = in.d_y.data(),
                                    .filter = in.filter.data(),
                                    .added = s.with_residual ? in.added.data() : nullptr,
                                    .mask = masks(s) ? in.x.data() : nullptr,
                                    .d_x = d_x.data(),
                                    .n = s.n,
                                    .geometry = s.geometry,
                                    .form = FilterForm::krsc}) == Status::ok);
  return d_x;
}
std::vector<double> weight_grad(const Case& s, const Wide& in) {
  std::vector<double> d_filter(in.filter.size());
  REQUIRE(conv2d_weight_grad(Cpu{}, {.x = in.x.data(),
                                     .d_y = in.d_y.data(),
                                     .d_filter = d_filter.data(),
                                     .n = s.n,
                                     .geometry = s.geometry}) == Status::ok);
  return d_filter;
}

// |got - right| <= (terms of a sum · roundoff of float32, tf32's operands of 11 bits rounded or
// cut, and in bfloat16 two roundings: of the convolution, and behind the epilogue) · Σ|a||b|.
template <class T, class R>
void require_near(const Case& s, const std::vector<R>& got, const std::vector<double>& right,
                  const std::vector<double>& scale, int64_t terms) {
  const double error =
      double(terms + 3) * (sizeof(T) == 8 ? roundoff<double> : roundoff<float>)+(
                              sizeof(T) == 4 && s.precision == Precision::tf32 ? 0x1p-9 : 0) +
      (sizeof(T) == 2 ? 2 * roundoff<Bf16> : 0);
  REQUIRE(got.size() == right.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double value = double(compute_t<R>(got[i])), tolerance = error * scale[i];
    if (!(std::abs(value - right[i]) <= tolerance))
      FAIL("element " << i << ": " << value << ", expected " << right[i] << " within "
                      << tolerance);
  }
}

template <class T>
void check(const Case& s) {
  const Conv2dGeometry& g = s.geometry;
  INFO("conv2d of " << s.n << " images " << g.height << " x " << g.width << ", channels " << g.c_in
                    << " to " << g.c_out << ", filter " << g.r << " x " << g.s << ", stride "
                    << g.stride << ", padding " << g.padding << ", bias " << s.with_bias
                    << ", residual " << s.with_residual << ", relu " << int(s.activation)
                    << ", packed " << int(s.form) << ", shift " << s.shift << ", bytes "
                    << sizeof(T) << ", tf32 " << int(s.precision));
  const Operands<T> in(s);
  const Wide wide(in), scale = wide.magnitudes();
  Case linear = s;
  linear.activation = ConvActivation::none;
  const int64_t taps = int64_t{g.r} * g.s;
  require_near<T>(s, forward(s, in), forward(s, wide), forward(linear, scale), taps * g.c_in);
  require_near<T>(s, input_grad(s, in), input_grad(s, wide), input_grad(linear, scale),
                  taps * g.c_out);
  const auto d_filter = weight_grad(s, in);
  const auto right = weight_grad(s, wide), magnitude = weight_grad(s, scale);
  const int64_t pixels = int64_t{s.n} * g.out_height() * g.out_width();
  if (g.c_in % 8 == 0 && g.c_out % 8 == 0 && s.shift == 0)  // not the library's: not rounded
    require_near<compute_t<T>>(s, d_filter, right, magnitude, pixels);
  else
    require_near<T>(s, d_filter, right, magnitude, pixels);
}

template <class T>
void check_all(Precision precision = Precision::float32) {
  for (Case s : cases()) {
    s.precision = precision;
    check<T>(s);
    s.with_residual = true;
    s.activation = ConvActivation::relu;
    check<T>(s);
    s.with_bias = false;
    s.activation = ConvActivation::none;
    if (sizeof(T) != 8) s.form = FilterForm::packed;
    s.shift = 1;
    check<T>(s);
  }
}

template <class T>
bool equal_bits(const std::vector<T>& a, const T* b) {
  return std::memcmp(a.data(), b, a.size() * sizeof(T)) == 0;
}

// Every image alone, and in a batch of another size at another place.
template <class T>
void check_batches(Precision precision = Precision::float32) {
  for (const Conv2dGeometry& g : {square(4, 8, 16, 3, 1, 1), square(5, 3, 5, 3, 2, 1)}) {
    INFO("batches of " << g.height << " x " << g.width << ", bytes " << sizeof(T));
    Case s{.n = 16, .geometry = g, .with_residual = true, .activation = ConvActivation::relu};
    s.precision = precision;
    const Operands<T> in(s);
    const std::vector<T> y = forward(s, in), d_x = input_grad(s, in);
    REQUIRE(equal_bits(forward(s, in), y.data()));
    REQUIRE(equal_bits(weight_grad(s, in), weight_grad(s, in).data()));
    for (const auto& [first, n] : {std::pair{0, 1}, {5, 1}, {15, 1}, {3, 7}}) {
      INFO("images from " << first << ", " << n);
      Case some = s;
      some.n = n;
      const Operands<T> part = in.of_images(s, first, n);
      REQUIRE(equal_bits(forward(some, part), y.data() + first * g.y_size()));
      REQUIRE(equal_bits(input_grad(some, part), d_x.data() + first * g.x_size()));
    }
  }
}

template <class T>
void check_empty() {
  Case s{.n = 0, .geometry = square(4, 3, 4, 3, 1, 1)};
  const Operands<T> in(s);
  REQUIRE(forward(s, in).empty());
  REQUIRE(input_grad(s, in).empty());
  for (const auto d : weight_grad(s, in)) REQUIRE(d == 0);
}

}  // namespace

TEST_CASE("cuda: conv2d in float64 equals the CPU's", "[cuda][conv2d_f64]") {
  check_all<double>();
  check_batches<double>();
  check_empty<double>();
}

TEST_CASE("cuda: conv2d equals the CPU's in float64", "[cuda][conv2d]") {
  check_all<float>();
  check_all<float>(Precision::tf32);
  check_all<Bf16>();
}

TEST_CASE("cuda: an image of conv2d has the same bits in any batch", "[cuda][conv2d]") {
  check_batches<float>();
  check_batches<float>(Precision::tf32);
  check_batches<Bf16>();
}

TEST_CASE("cuda: conv2d of no images", "[cuda][conv2d]") {
  check_empty<float>();
  check_empty<Bf16>();
}

TEST_CASE("cuda: a packed filter of conv2d gives the bits of the filter itself", "[cuda][conv2d]") {
  Case s{.n = 3, .geometry = square(5, 8, 6, 3, 1, 1)};
  const Operands<Bf16> in(s);
  const std::vector<Bf16> y = forward(s, in), d_x = input_grad(s, in);
  s.form = FilterForm::packed;
  REQUIRE(equal_bits(forward(s, in), y.data()));
  REQUIRE(equal_bits(input_grad(s, in), d_x.data()));
}

TEST_CASE("cuda: a weight gradient of bfloat16 in eights is grouped_conv2d's of one expert",
          "[cuda][conv2d]") {
  const Case s{.n = 2, .geometry = square(24, 8, 16, 3, 1, 1)};  // 1152 pixels: in pieces
  const Operands<Bf16> in(s);
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
  for (const int c_out : {8, 5}) {  // with the library's epilogue and with our own
    Case s{.n = 1, .geometry = square(3, 8, c_out, 1, 1, 0), .activation = ConvActivation::relu};
    Operands<float> in(s);
    in.x[0] = NAN;  // of the first pixel
    const std::vector<float> y = forward(s, in);
    for (int o = 0; o < c_out; ++o) REQUIRE(y[size_t(o)] == 0);
  }
}

TEST_CASE("cuda: calls of conv2d that a graph has recorded", "[cuda][conv2d]") {
  const Case s{.n = 2, .geometry = square(5, 8, 6, 3, 1, 1), .with_residual = true};
  const Operands<Bf16> in(s);
  const std::vector<Bf16> right = forward(s, in);
  Context context;
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
