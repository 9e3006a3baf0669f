#include "kernels/vision/augment.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kMost = std::numeric_limits<int>::max();

// The bits of the CPU half; y starts `offset` values after a multiple of 256 bytes. A result
// without a size has the image's.
void check(Augment a, size_t offset = 0) {
  if (a.y_height == 0 && a.y_width == 0) a.y_height = a.height, a.y_width = a.width;
  if (a.padding > 0) a.crop = Crop::window;
  const bool is_filled = a.cutout % 2 == 1;  // both forms are met
  INFO("images " << a.n << "x" << a.height << "x" << a.width << "x" << a.channels << " to "
                 << a.y_height << "x" << a.y_width << ", crop " << int(a.crop) << ", padding "
                 << a.padding << ", cutout " << a.cutout << ", flip " << int(a.flip)
                 << ", max_value " << a.max_value << ", offset " << offset);
  const size_t pixels = size_t(a.n) * size_t(a.channels),
               count = pixels * size_t(a.y_height) * size_t(a.y_width);
  const auto images =
      integers<uint8_t>(pixels * size_t(a.height) * size_t(a.width), 1, 0, a.max_value + 1);
  auto ids = integers<int32_t>(size_t(a.n), 2, 0, kMost);
  if (!ids.empty()) ids.back() = -1;  // an id is 32 bits to the draws
  const auto fill = integers<float>(size_t(a.channels), 3, 1, 100);
  a.seed = 0x123456789abcdef0;
  a.iteration = 3;
  a.purpose = 0x82;
  a.stream = 0xfedcba;

  std::vector<float> want(count);
  a.images = images.data();
  a.ids = ids.data();
  a.fill = is_filled ? fill.data() : nullptr;
  a.y = want.data();
  REQUIRE(augment(Cpu{}, a) == Status::ok);

  const DeviceArray<uint8_t> device_images(images);
  const DeviceArray<int32_t> device_ids(ids);
  const DeviceArray<float> device_fill(fill);
  const DeviceArray<float> y(count + offset);
  a.images = device_images.data();
  a.ids = device_ids.data();
  a.fill = is_filled ? device_fill.data() : nullptr;
  a.y = y.data() + offset;
  REQUIRE(run<Augment>(augment, a) == Status::ok);
  const std::vector<float> got = y.host();
  REQUIRE(std::memcmp(got.data() + offset, want.data(), count * sizeof(float)) == 0);
}

}  // namespace

TEST_CASE("cuda: augment gives the CPU's bits", "[cuda][augment]") {
  for (const Augment& size : {Augment{.n = 9, .height = 5, .width = 7, .channels = 3},
                              {.n = 7, .height = 8, .width = 8, .channels = 1},  // vectors
                              {.n = 5, .height = 6, .width = 2, .channels = 4},
                              {.n = 3, .height = 1, .width = 9, .channels = 2},
                              {.n = 3, .height = 13, .width = 1, .channels = 1},
                              {.n = 1, .height = 1, .width = 1, .channels = 1}})
    for (int padding : {0, 1, 4})
      for (Flip flip : {Flip::none, Flip::horizontal})
        for (int cutout : {0, 3, 4}) {
          Augment a = size;
          a.padding = padding;
          a.flip = flip;
          a.cutout = cutout;
          a.max_value = cutout == 3 ? 16 : 255;
          check(a);
          check(a, 1);
        }
}

TEST_CASE("cuda: augment of images of several stretches", "[cuda][augment]") {
  check({.n = 3,
         .height = 20,
         .width = 18,
         .channels = 3,
         .max_value = 255,
         .padding = 4,
         .flip = Flip::horizontal,
         .cutout = 8});
  check({.n = 2,
         .height = 13,
         .width = 11,
         .channels = 3,
         .max_value = 255,
         .padding = 4,
         .flip = Flip::horizontal,
         .cutout = 9});
}

TEST_CASE("cuda: augment's crops of larger images", "[cuda][augment]") {
  struct Size {
    int height, width, y_height, y_width, channels;
  };
  for (const auto& [height, width, y_height, y_width, channels] :
       {Size{9, 8, 4, 8, 3}, Size{8, 11, 7, 5, 1}, Size{30, 23, 14, 11, 3}, Size{5, 5, 1, 1, 2},
        Size{40, 7, 20, 7, 4}})
    for (Crop crop : {Crop::centre, Crop::window, Crop::area})
      for (int cutout : {0, 3}) {
        Augment a{.n = 6, .height = height, .width = width, .channels = channels};
        a.y_height = y_height, a.y_width = y_width;
        a.max_value = 255;
        a.crop = crop;
        a.least_area = 0.08;
        a.flip = crop == Crop::centre ? Flip::none : Flip::horizontal;
        a.cutout = cutout;
        check(a);
        check(a, 1);
        a.padding = crop == Crop::window ? 3 : 0;
        check(a);
      }
}

TEST_CASE("cuda: augment's window may miss the image", "[cuda][augment]") {
  for (int padding : {40, kMost})
    check({.n = 9,
           .height = 4,
           .width = 5,
           .channels = 2,
           .max_value = 255,
           .padding = padding,
           .flip = Flip::horizontal});
}

TEST_CASE("cuda: the square of augment may be larger than any image", "[cuda][augment]") {
  for (int cutout : {14, 40, kMost})
    check({.n = 9,
           .height = 4,
           .width = 5,
           .channels = 2,
           .max_value = 255,
           .padding = 1,
           .cutout = cutout});
}

TEST_CASE("cuda: augment of nothing", "[cuda][augment]") {
  for (const Augment& a :
       {Augment{.n = 0, .height = 4, .width = 4, .channels = 3, .max_value = 255},
        {.n = 2, .height = 0, .width = 4, .channels = 3, .max_value = 255},
        {.n = 2, .height = 4, .width = 0, .channels = 3, .max_value = 255},
        {.n = 2, .height = 4, .width = 4, .channels = 0, .max_value = 255}})
    check(a);
}

TEST_CASE("cuda: augment refuses bad arguments before any launch", "[cuda][augment]") {
  for (const Augment& a :
       {Augment{.n = -1, .max_value = 1},
        {.height = -1, .max_value = 1},
        {.width = -1, .max_value = 1},
        {.channels = -1, .max_value = 1},
        {.n = 1, .height = 1 << 16, .width = 1 << 15, .channels = 1, .max_value = 1},
        {.n = 1, .height = 1 << 15, .width = 1 << 15, .channels = 2, .max_value = 1},
        {.max_value = 0},
        {.max_value = 256},
        {.height = 3, .width = 3, .y_height = 4, .y_width = 3, .max_value = 1},
        {.height = 3, .width = 3, .y_height = 3, .y_width = 4, .max_value = 1},
        {.height = 3, .width = 3, .y_height = -1, .y_width = 3, .max_value = 1},
        {.max_value = 1, .crop = Crop{3}},
        {.max_value = 1, .padding = 1},
        {.max_value = 1, .crop = Crop::area, .padding = 1, .least_area = 1},
        {.max_value = 1, .crop = Crop::area, .least_area = 0},
        {.max_value = 1, .crop = Crop::area, .least_area = 1.01},
        {.max_value = 1, .crop = Crop::area, .least_area = std::nan("")},
        {.height = 1, .width = 4097, .max_value = 1, .crop = Crop::area, .least_area = 1},
        {.max_value = 1, .crop = Crop::window, .padding = -1},
        {.height = 1, .max_value = 1, .crop = Crop::window, .padding = kMost},
        {.max_value = 1, .flip = Flip{2}},
        {.max_value = 1, .cutout = -1},
        {.max_value = 1, .purpose = 1 << 8},
        {.max_value = 1, .stream = 1 << 24}}) {
    CHECK(augment(Cuda{}, a) == Status::bad_args);
    CHECK(augment(Cpu{}, a) == Status::bad_args);
  }
}

}  // namespace moat::tests
