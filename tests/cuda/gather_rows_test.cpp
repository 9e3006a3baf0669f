#include "kernels/basic/gather_rows.h"

#include <algorithm>
#include <cstring>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

bool is_source(int32_t index, int sources) { return index >= 0 && index < sources; }

// x and y start `offset` bytes after a multiple of 256.
void check_gather(const std::vector<int32_t>& index, int sources, int64_t row_bytes,
                  size_t offset = 0) {
  INFO(index.size() << " rows of " << row_bytes << " bytes, " << sources << " sources, offset "
                    << offset);
  const size_t row = size_t(row_bytes);
  const auto x = integers<uint8_t>(offset + size_t(sources) * row, unsigned(row_bytes), 0, 256);
  const DeviceArray<uint8_t> device_x(x), y(offset + index.size() * row);
  const DeviceArray<int32_t> device_index(index);
  REQUIRE(run<GatherRows>(gather_rows, {.x = device_x.data() + offset,
                                        .index = device_index.data(),
                                        .y = y.data() + offset,
                                        .rows = static_cast<int>(index.size()),
                                        .sources = sources,
                                        .row_bytes = row_bytes}) == Status::ok);
  std::vector<uint8_t> want(offset + index.size() * row);
  std::fill_n(want.begin(), offset, uint8_t{kPoison});
  for (size_t i = 0; i < index.size(); ++i)
    if (is_source(index[i], sources))
      std::copy_n(x.data() + offset + size_t(index[i]) * row, row, want.data() + offset + i * row);
  REQUIRE(y.host() == want);
}

// Sums in the order of the contract, in the format of the kernel: the same bits. Values d_y and d_x
// start `offset` values after a multiple of 256 bytes.
template <class T>
void check_grad(const std::vector<int32_t>& index, int sources, int64_t width, size_t offset = 0) {
  INFO(index.size() << " rows of " << width << " values, " << sources << " sources, offset "
                    << offset);
  using C = compute_t<T>;
  const size_t columns = size_t(width), count = size_t(sources) * columns;
  const auto d_y = rounded<T>(normals(offset + index.size() * columns, unsigned(width)));
  std::vector<C> sums(count, C(0));
  for (size_t i = 0; i < index.size(); ++i)
    for (size_t j = 0; is_source(index[i], sources) && j < columns; ++j)
      sums[size_t(index[i]) * columns + j] += static_cast<C>(d_y[offset + i * columns + j]);

  const DeviceArray<T> device_d_y(d_y), d_x(offset + count);
  const DeviceArray<int32_t> device_index(index);
  const GatherRowsGrad a{.d_y = device_d_y.data() + offset,
                         .index = device_index.data(),
                         .d_x = d_x.data() + offset,
                         .rows = static_cast<int>(index.size()),
                         .sources = sources,
                         .width = width,
                         .dtype = dtype_of<T>};
  REQUIRE(run<GatherRowsGrad>(gather_rows_grad, a, gather_rows_grad_workspace(Cuda{}, a)) ==
          Status::ok);
  const std::vector<T> got = d_x.host();
  for (size_t at = 0; at < count; ++at) {
    const T want(sums[at]);
    INFO("source " << at / columns << ", column " << at % columns);
    REQUIRE(std::memcmp(&got[offset + at], &want, sizeof(T)) == 0);
  }
}

}  // namespace

TEST_CASE("cuda: gather_rows moves rows of any width, wherever they start", "[cuda][gather_rows]") {
  const std::vector<int32_t> index{4, 0, 2, 2, 1, 4, 4};
  for (int64_t row_bytes : {0, 1, 6, 16, 40, 700}) check_gather(index, 5, row_bytes);
  for (size_t offset : {1, 2, 4, 8}) check_gather(index, 5, 96, offset);
  check_gather({}, 5, 16);
  check_gather({0, 0, 0}, 1, 4);
}

TEST_CASE("cuda: gather_rows gives zeros for a source that does not exist", "[cuda][gather_rows]") {
  check_gather({3, -1, 2, 1 << 30, 0}, 3, 12);
  check_gather({0, 1}, 0, 8);
}

TEMPLATE_TEST_CASE("cuda: gather_rows_grad sums few rows in their order", "[cuda][gather_rows]",
                   double, float, Bf16) {
  for (int64_t width : {0, 1, 7, 40, 136})
    for (int rows : {0, 1, 33, 100})
      check_grad<TestType>(integers<int32_t>(size_t(rows), unsigned(rows), 0, 9), 9, width);
  check_grad<TestType>(integers<int32_t>(50, 3, 0, 40), 40, 1100);  // several stretches
  check_grad<TestType>({2, 2, 0, 2, -1, 5, 2, 1 << 30}, 5, 24);
  check_grad<TestType>({1, 1, 0}, 2, 32, 1);
  check_grad<TestType>({0, 1}, 0, 8);
}

TEMPLATE_TEST_CASE("cuda: gather_rows_grad sums many rows in their order", "[cuda][gather_rows]",
                   double, float, Bf16) {
  check_grad<TestType>(integers<int32_t>(1500, 1, -2, 21), 19, 3);
  check_grad<TestType>(integers<int32_t>(1030, 2, 0, 255), 255, 8);
}

TEST_CASE("cuda: gather_rows_grad sorts by several digits", "[cuda][gather_rows]") {
  check_grad<float>(integers<int32_t>(1100, 3, -50, 700), 650, 5);
  check_grad<float>(std::vector<int32_t>(1025, 299), 300, 4);  // one source has all
  std::vector<int32_t> ends(1200, 255);                        // on both sides of a digit
  for (size_t i = 0; i < ends.size(); i += 3) ends[i] = 256;
  check_grad<float>(ends, 257, 1);
  check_grad<float>(std::vector<int32_t>(1100, -1), 256, 2);
}

// Takes seconds in the interpreter: run by its own tag.
TEST_CASE("cuda: gather_rows_grad of more sources than two digits", "[.large]") {
  check_grad<float>(integers<int32_t>(1100, 4, 65000, 65600), 65537, 1);
}

TEST_CASE("cuda: gather_rows refuses bad arguments before any launch", "[cuda][gather_rows]") {
  CHECK(gather_rows(Cuda{}, {.rows = -1}) == Status::bad_args);
  CHECK(gather_rows(Cuda{}, {.sources = -1}) == Status::bad_args);
  CHECK(gather_rows(Cuda{}, {.row_bytes = -1}) == Status::bad_args);
  const auto grad = [](int rows, int sources, int64_t width, Dtype dtype) {
    return gather_rows_grad(Cuda{},
                            {.rows = rows, .sources = sources, .width = width, .dtype = dtype});
  };
  CHECK(grad(-1, 1, 1, Dtype::f32) == Status::bad_args);
  CHECK(grad(1, -1, 1, Dtype::f32) == Status::bad_args);
  CHECK(grad(1, 1, -1, Dtype::f32) == Status::bad_args);
  CHECK(grad(1, 1, 1, Dtype::i32) == Status::unsupported);
  CHECK(grad(2000, 1, 1, Dtype::f32) == Status::small_workspace);
}

}  // namespace moat::tests
