#include "kernels/basic/copy.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

using Six = std::array<int64_t, 6>;
constexpr auto kAll = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::i64, Dtype::u8};

struct Layout {
  Six extents, from_strides, to_strides;
};

Six dense_strides(const Six& extents) {
  Six strides{};
  int64_t run = 1;
  for (size_t i = 6; i-- > 0; run *= extents[i]) strides[i] = run;
  return strides;
}

// Elements from the first to the last that strides reach.
size_t reach(const Six& extents, const Six& strides) {
  int64_t last = 0;
  for (size_t i = 0; i < 6; ++i) {
    if (extents[i] == 0) return 0;
    last += (extents[i] - 1) * strides[i];
  }
  return size_t(last) + 1;
}

// `values` in a number format, as bytes.
std::vector<char> stored(const std::vector<double>& values, Dtype dtype) {
  std::vector<char> bytes(values.size() * size_of(dtype));
  const auto n = static_cast<int64_t>(values.size());
  REQUIRE(copy(Cpu{}, {.from = values.data(),
                       .to = bytes.data(),
                       .extents = {1, 1, 1, 1, 1, n},
                       .from_strides = {0, 0, 0, 0, 0, 1},
                       .to_strides = {0, 0, 0, 0, 0, 1},
                       .from_dtype = Dtype::f64,
                       .to_dtype = dtype}) == Status::ok);
  return bytes;
}

// The target starts as bytes of 1, so that what must not be written is seen; offsets are the first
// elements of the arrays.
void check(const Layout& layout, Dtype from_dtype, Dtype to_dtype,
           const std::vector<double>& values, size_t from_offset = 0, size_t to_offset = 0) {
  INFO("from dtype " << int(from_dtype) << " to " << int(to_dtype) << ", offsets " << from_offset
                     << " and " << to_offset);
  std::vector<char> from = stored(values, from_dtype);
  from.insert(from.begin(), from_offset * size_of(from_dtype), 1);
  std::vector<char> to((reach(layout.extents, layout.to_strides) + to_offset) * size_of(to_dtype),
                       1);
  const DeviceArray<char> device_from(from), device_to(to);
  Copy a{.extents = layout.extents,
         .from_strides = layout.from_strides,
         .to_strides = layout.to_strides,
         .from_dtype = from_dtype,
         .to_dtype = to_dtype};
  a.from = device_from.data() + from_offset * size_of(from_dtype);
  a.to = device_to.data() + to_offset * size_of(to_dtype);
  REQUIRE(run<Copy>(copy, a) == Status::ok);
  a.from = from.data() + from_offset * size_of(from_dtype);
  a.to = to.data() + to_offset * size_of(to_dtype);
  REQUIRE(copy(Cpu{}, a) == Status::ok);
  const std::vector<char> got = device_to.host();
  for (size_t i = 0; i < to.size(); ++i) {
    INFO("byte " << i);
    REQUIRE(got[i] == to[i]);
  }
}

Layout dense(int64_t count) {
  return {{1, 1, 1, 1, 1, count}, {0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 1}};
}

// NHWC to NCHW and back.
Layout images(int64_t n, int64_t h, int64_t w, int64_t c, bool to_nchw) {
  const Six nhwc = {0, h * w * c, w * c, c, 1, 1}, nchw = {0, h * w * c, w, 1, h * w, 1};
  return {{1, n, h, w, c, 1}, to_nchw ? nhwc : nchw, to_nchw ? nchw : nhwc};
}

// Values that every format holds or that truncate: 0.5 steps in [0, 100).
std::vector<double> halves(size_t count) {
  std::vector<double> values = integers<double>(count, 3, 0, 200);
  for (double& x : values) x /= 2;
  return values;
}

}  // namespace

TEST_CASE("cuda: copy of every format to every other, dense and strided", "[cuda][copy]") {
  const Layout rows = {{1, 1, 1, 2, 3, 5}, {0, 0, 0, 20, 6, 1}, {0, 0, 0, 17, 1, 3}};
  for (Dtype from : kAll)
    for (Dtype to : kAll) {
      check(dense(37), from, to, halves(37));
      check(rows, from, to, halves(40));
    }
}

TEST_CASE("cuda: copy of many shapes", "[cuda][copy]") {
  const auto each = [](const Layout& layout) {
    const size_t count = reach(layout.extents, layout.from_strides);
    for (auto [from, to] : {std::pair{Dtype::f32, Dtype::f32},
                            {Dtype::f32, Dtype::bf16},
                            {Dtype::u8, Dtype::f32},
                            {Dtype::bf16, Dtype::bf16}})
      for (const auto& [from_offset, to_offset] :
           {std::pair{0, 0}, {1, 1}, {1, 0}, {0, 1}, {16, 16}})
        check(layout, from, to, halves(count), size_t(from_offset), size_t(to_offset));
  };
  for (int64_t count : {0, 1, 16, 2048, 2065}) each(dense(count));
  for (bool to_nchw : {true, false}) {
    each(images(2, 3, 5, 3, to_nchw));
    each(images(2, 4, 8, 16, to_nchw));
  }
  const Six extents = {2, 3, 2, 2, 3, 16};
  // Six axes of which none can be merged: every second element of the first ones.
  Six apart = dense_strides({2, 6, 4, 4, 6, 16});
  each({extents, apart, dense_strides(extents)});
  each({extents, dense_strides(extents), apart});
  // Broadcasts along the last axis, an outer axis and everywhere.
  each({extents, {144, 48, 24, 12, 4, 0}, dense_strides(extents)});
  each({extents, {16, 0, 0, 0, 0, 1}, dense_strides(extents)});
  each({extents, {}, dense_strides(extents)});
  each({{2, 0, 1, 1, 1, 4}, {}, {0, 0, 0, 0, 0, 1}});
}

TEST_CASE("cuda: copy of rows whose distance is no multiple of a vector", "[cuda][copy]") {
  for (int64_t distance : {16, 17, 20})
    for (bool swapped : {false, true}) {
      const Six apart = {0, 0, 0, 0, distance, 1}, near = {0, 0, 0, 0, 16, 1};
      check({{1, 1, 1, 1, 5, 16}, swapped ? near : apart, swapped ? apart : near}, Dtype::f32,
            Dtype::f32, halves(100));
    }
}

TEST_CASE("cuda: copy of rows of no multiple of a vector that start on vectors", "[cuda][copy]") {
  for (int64_t width : {5, 7})
    for (int64_t from_distance : {width, int64_t{8}})
      check({{1, 1, 1, 1, 5, width}, {0, 0, 0, 0, from_distance, 1}, {0, 0, 0, 0, 8, 1}},
            Dtype::f32, Dtype::f32, halves(40));
}

TEST_CASE("cuda: copy backwards, from the last element", "[cuda][copy]") {
  const DeviceArray<float> from(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}), to(8);
  REQUIRE(run<Copy>(copy, {.from = from.data() + 7,
                           .to = to.data(),
                           .extents = {1, 1, 1, 1, 1, 8},
                           .from_strides = {0, 0, 0, 0, 0, -1},
                           .to_strides = {0, 0, 0, 0, 0, 1},
                           .from_dtype = Dtype::f32,
                           .to_dtype = Dtype::f32}) == Status::ok);
  CHECK(to.host() == std::vector<float>{8, 7, 6, 5, 4, 3, 2, 1});
}

TEST_CASE("cuda: copy rounds to nearest even and keeps infinities and NaN", "[cuda][copy]") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> values = {1 + 0x1p-8, 1 + 0x3p-8, -1 - 0x1p-8, 1 + 0x1.002p-8,
                                      inf,        -inf,       3e38,        3.4e38,
                                      1e-45,      -0.0,       1e300};
  for (Dtype from : {Dtype::f64, Dtype::f32})
    for (Dtype to : {Dtype::f64, Dtype::f32, Dtype::bf16})
      check(dense(int64_t(values.size())), from, to, values);
  const DeviceArray<double> nan(std::vector<double>(5, std::nan("")));
  const DeviceArray<Bf16> to(std::vector<Bf16>(5, Bf16(0)));
  Copy a = {.from = nan.data(), .to = to.data(), .from_dtype = Dtype::f64, .to_dtype = Dtype::bf16};
  a.extents = dense(5).extents;
  a.from_strides = a.to_strides = dense(5).from_strides;
  REQUIRE(run<Copy>(copy, a) == Status::ok);
  for (Bf16 x : to.host()) CHECK(std::isnan(float(x)));
}

TEST_CASE("cuda: copy truncates to integers", "[cuda][copy]") {
  const std::vector<double> values = {0.99, 1.5, 2.999, -0.99, -1.5, -2.999, 1e6, -1e6};
  for (Dtype from : {Dtype::f64, Dtype::f32, Dtype::bf16})
    for (Dtype to : {Dtype::i32, Dtype::i64}) check(dense(8), from, to, values);
}

TEST_CASE("cuda: fill equals the CPU and stays inside", "[cuda][copy]") {
  for (Dtype dtype : kAll)
    for (double value : {2.75, 0.0, 200.0})
      for (size_t count : {0, 1, 31, 4099})
        for (size_t offset : {0, 1}) {
          INFO("dtype " << int(dtype) << ", count " << count << ", offset " << offset);
          const size_t first = offset * size_of(dtype);
          std::vector<char> want((count + 2) * size_of(dtype), 1);
          const DeviceArray<char> to(want);
          Fill a{.count = int64_t(count), .value = value, .dtype = dtype};
          a.to = to.data() + first;
          REQUIRE(run<Fill>(fill, a) == Status::ok);
          a.to = want.data() + first;
          REQUIRE(fill(Cpu{}, a) == Status::ok);
          CHECK(to.host() == want);
        }
}

TEST_CASE("cuda: copy and fill refuse negative extents before any launch", "[cuda][copy]") {
  CHECK(copy(Cuda{}, {.extents = {1, 1, 1, 1, -1, 2}, .from_dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(fill(Cuda{}, {.count = -1, .dtype = Dtype::f32}) == Status::bad_args);
}

}  // namespace moat::tests
