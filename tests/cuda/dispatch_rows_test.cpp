#include "kernels/routing/dispatch_rows.h"

#include <cstring>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Routing {
  int k = 1;
  std::vector<int32_t> row_token, slot_of;
};

// Five tokens with two choices each: one choice and the whole of token 3 are dropped, rows 5 and 7
// belong to no one.
const Routing kFive{
    .k = 2, .row_token = {4, 0, 2, 0, 1, -1, 2, -1}, .slot_of = {1, 3, 4, -1, 6, 2, -1, -1, 0, -1}};

// Bytes that are no number in particular: whatever the format is, they are moved as they are.
std::vector<uint8_t> bytes(size_t count, unsigned seed) {
  return integers<uint8_t>(count, seed, 0, 256);
}

// How many elements after an aligned address x and y start.
struct Offsets {
  size_t x = 0, y = 0;
};

// Rows of `width` elements.
void check(Dtype dtype, int64_t width, Offsets offsets, const Routing& r, int tokens) {
  INFO("width " << width << ", element of " << size_of(dtype) << " bytes, offset of x " << offsets.x
                << ", of y " << offsets.y);
  const size_t row = size_t(width) * size_of(dtype), skip = offsets.x * size_of(dtype),
               skip_y = offsets.y * size_of(dtype);
  const int rows = static_cast<int>(r.row_token.size());
  const std::vector<uint8_t> x = bytes(skip + row * size_t(tokens), unsigned(width));
  std::vector<uint8_t> want(row * size_t(rows));
  REQUIRE(dispatch_rows(Cpu{}, {.x = x.data() + skip,
                                .row_token = r.row_token.data(),
                                .y = want.data(),
                                .tokens = tokens,
                                .rows = rows,
                                .width = width,
                                .dtype = dtype}) == Status::ok);
  const DeviceArray<uint8_t> device_x(x);
  const DeviceArray<int32_t> row_token(r.row_token), slot_of(r.slot_of);
  for (const int32_t* slots :
       {static_cast<const int32_t*>(nullptr), static_cast<const int32_t*>(slot_of.data())}) {
    const DeviceArray<uint8_t> y(skip_y + want.size());
    REQUIRE(run<DispatchRows>(dispatch_rows, {.x = device_x.data() + skip,
                                              .row_token = row_token.data(),
                                              .y = y.data() + skip_y,
                                              .tokens = tokens,
                                              .rows = rows,
                                              .width = width,
                                              .dtype = dtype,
                                              .slot_of = slots,
                                              .k = r.k}) == Status::ok);
    const std::vector<uint8_t> got = y.host();
    REQUIRE(std::equal(want.begin(), want.end(), got.begin() + static_cast<int64_t>(skip_y)));
    REQUIRE(std::all_of(got.begin(), got.begin() + static_cast<int64_t>(skip_y),
                        [](uint8_t b) { return b == kPoison; }));
  }
}

}  // namespace

TEST_CASE("cuda: dispatch_rows moves every format and width", "[cuda][dispatch_rows]") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::u8})
    for (int64_t width : {0, 1, 5, 8, 33, 64, 300}) check(dtype, width, {}, kFive, 5);
  check(Dtype::f32, 1100, {}, kFive, 5);    // several stretches of 16-byte words
  check(Dtype::u8, 700, {3, 3}, kFive, 5);  // several stretches of single bytes
}

TEST_CASE("cuda: dispatch_rows at addresses that are not multiples of 16",
          "[cuda][dispatch_rows]") {
  for (size_t offset : {1, 2, 4, 7})
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::u8})
      for (const Offsets offsets : {Offsets{offset, 0}, {0, offset}, {offset, offset}})
        check(dtype, 48, offsets, kFive, 5);
}

TEST_CASE("cuda: dispatch_rows without tokens, without rows, and with more rows than a block",
          "[cuda][dispatch_rows]") {
  check(Dtype::f32, 6, {}, {.row_token = {-1, -1, -1}, .slot_of = {}}, 0);
  check(Dtype::f32, 6, {}, {.row_token = {}, .slot_of = {-1, -1}}, 2);
  Routing many{.k = 1, .row_token = std::vector<int32_t>(27), .slot_of = std::vector<int32_t>(27)};
  for (int32_t i = 0; i < 27; ++i) {
    many.row_token[size_t(i)] = i * 4 % 27;
    many.slot_of[size_t(i * 4 % 27)] = i;
  }
  check(Dtype::bf16, 24, {}, many, 27);
}

TEST_CASE("cuda: dispatch_rows gives zeros for a token that does not exist",
          "[cuda][dispatch_rows]") {
  const DeviceArray<float> x(std::vector<float>{1, 2}), y(4);
  const DeviceArray<int32_t> row_token(std::vector<int32_t>{2, 1, -7, 1 << 30});
  REQUIRE(run<DispatchRows>(dispatch_rows, {.x = x.data(),
                                            .row_token = row_token.data(),
                                            .y = y.data(),
                                            .tokens = 2,
                                            .rows = 4,
                                            .width = 1,
                                            .dtype = Dtype::f32}) == Status::ok);
  CHECK(y.host() == std::vector<float>{0, 2, 0, 0});
}

TEST_CASE("cuda: dispatch_rows refuses negative extents before any launch",
          "[cuda][dispatch_rows]") {
  const int32_t slot = 0;
  CHECK(dispatch_rows(Cuda{}, {.tokens = -1, .rows = 1, .width = 1, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(dispatch_rows(Cuda{}, {.tokens = 1, .rows = -1, .width = 1, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(dispatch_rows(Cuda{}, {.tokens = 1, .rows = 1, .width = -1, .dtype = Dtype::f32}) ==
        Status::bad_args);
  CHECK(dispatch_rows(
            Cuda{},
            {.tokens = 1, .rows = 1, .width = 1, .dtype = Dtype::f32, .slot_of = &slot, .k = -1}) ==
        Status::bad_args);
}

}  // namespace moat::tests
