#include "kernels/vision/mix_images.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

// The bits of the CPU half; images and y start so many values after a multiple of 256 bytes.
void check(MixImages a, size_t images_offset = 0, size_t y_offset = 0) {
  INFO("images " << a.n << "x" << a.height << "x" << a.width << "x" << a.channels << ", mixup "
                 << a.mixup << ", cutmix " << a.cutmix << ", offsets " << images_offset << " and "
                 << y_offset);
  const auto n = size_t(a.n), values = size_t(a.height) * size_t(a.width) * size_t(a.channels);
  const auto images = rounded<float>(normals(images_offset + n * values, 1));
  const auto labels = integers<int32_t>(n, 2, 0, 1000);
  auto ids = integers<int32_t>(n, 3, 0, std::numeric_limits<int>::max());
  if (!ids.empty()) ids.back() = -1;  // an id is 32 bits to the draws
  a.seed = 0x123456789abcdef0;
  a.iteration = 3;
  a.purpose = 0x82;
  a.stream = 0xfedcba;

  std::vector<float> y(n * values), weights(n);
  std::vector<int32_t> mixed(n), other(n);
  a.images = images.data() + images_offset;
  a.labels = labels.data();
  a.ids = ids.data();
  a.y = y.data();
  a.mixed_labels = mixed.data();
  a.other_labels = other.data();
  a.weights = weights.data();
  REQUIRE(mix_images(Cpu{}, a) == Status::ok);

  const DeviceArray<float> device_images(images), device_y(y_offset + n * values),
      device_weights(n);
  const DeviceArray<int32_t> device_labels(labels), device_ids(ids), device_mixed(n),
      device_other(n);
  a.images = device_images.data() + images_offset;
  a.labels = device_labels.data();
  a.ids = device_ids.data();
  a.y = device_y.data() + y_offset;
  a.mixed_labels = device_mixed.data();
  a.other_labels = device_other.data();
  a.weights = device_weights.data();
  REQUIRE(run<MixImages>(mix_images, a) == Status::ok);
  const std::vector<float> got = device_y.host();
  REQUIRE(same_bits({got.begin() + long(y_offset), got.end()}, y));
  REQUIRE(same_bits(device_weights.host(), weights));
  REQUIRE(device_mixed.host() == mixed);
  REQUIRE(device_other.host() == other);
}

}  // namespace

TEST_CASE("cuda: mix_images gives the CPU's bits", "[cuda][mix_images]") {
  for (const MixImages& size : {MixImages{.n = 9, .height = 5, .width = 7, .channels = 3},
                                {.n = 7, .height = 8, .width = 8, .channels = 1},  // vectors
                                {.n = 5, .height = 6, .width = 2, .channels = 4},
                                {.n = 3, .height = 1, .width = 9, .channels = 2},
                                {.n = 3, .height = 13, .width = 1, .channels = 1},
                                {.n = 2, .height = 4, .width = 6, .channels = 2},
                                {.n = 1, .height = 3, .width = 4, .channels = 1},
                                {.n = 1, .height = 1, .width = 1, .channels = 1}})
    for (const auto& [mixup, cutmix] : {std::pair(0.2, 0.), {0., 1.}, {1., 3.}}) {
      MixImages a = size;
      a.mixup = mixup;
      a.cutmix = cutmix;
      check(a);
      check(a, 1, 0);
      check(a, 0, 1);
    }
}

TEST_CASE("cuda: mix_images of images of several stretches", "[cuda][mix_images]") {
  check({.n = 3, .height = 20, .width = 18, .channels = 3, .mixup = 0.5});
  check({.n = 5, .height = 20, .width = 18, .channels = 3, .cutmix = 0.5});
  check({.n = 5, .height = 13, .width = 11, .channels = 3, .cutmix = 1});
}

TEST_CASE("cuda: mix_images draws from the whole range of alpha", "[cuda][mix_images]") {
  for (double alpha : {1e-300, 1e-4, 0.01, 30., 1e4, 1e300}) {
    check({.n = 40, .height = 2, .width = 2, .channels = 1, .mixup = alpha});
    check({.n = 40, .height = 2, .width = 2, .channels = 1, .cutmix = alpha});
  }
}

// Beta(0.2, 0.2) rounds to -2^-53 for the first image, unless it is kept at 0.
TEST_CASE("cuda: a share of mix_images that rounds below 0 is 0", "[cuda][mix_images]") {
  const DeviceArray<float> images(std::vector<float>{1, 0}), y(2), weights(2);
  const DeviceArray<int32_t> labels(std::vector<int32_t>{0, 1}),
      ids(std::vector<int32_t>{18062, 0}), mixed(2), other(2);
  REQUIRE(run<MixImages>(mix_images, {.images = images.data(),
                                      .labels = labels.data(),
                                      .ids = ids.data(),
                                      .y = y.data(),
                                      .mixed_labels = mixed.data(),
                                      .other_labels = other.data(),
                                      .weights = weights.data(),
                                      .n = 2,
                                      .height = 1,
                                      .width = 1,
                                      .channels = 1,
                                      .mixup = 0.2,
                                      .seed = 1,
                                      .purpose = 2}) == Status::ok);
  REQUIRE(y.host()[0] == 0);
  REQUIRE(weights.host()[0] == 1);
  REQUIRE(mixed.host()[0] == 1);
}

TEST_CASE("cuda: mix_images of nothing", "[cuda][mix_images]") {
  for (const MixImages& size : {MixImages{.n = 0, .height = 4, .width = 4, .channels = 3},
                                {.n = 2, .height = 0, .width = 4, .channels = 3},
                                {.n = 2, .height = 4, .width = 0, .channels = 3},
                                {.n = 2, .height = 4, .width = 4, .channels = 0}}) {
    MixImages a = size;
    a.mixup = 1;
    check(a);
    a.mixup = 0;
    a.cutmix = 1;
    check(a);
  }
}

TEST_CASE("cuda: mix_images refuses bad arguments before any launch", "[cuda][mix_images]") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const MixImages& a :
       {MixImages{.n = -1, .mixup = 1},
        {.height = -1, .mixup = 1},
        {.width = -1, .mixup = 1},
        {.channels = -1, .mixup = 1},
        {.n = 1, .height = 1 << 16, .width = 1 << 15, .channels = 1, .mixup = 1},
        {.n = 1, .height = 1 << 15, .width = 1 << 15, .channels = 2, .mixup = 1},
        {},
        {.mixup = -1, .cutmix = 2},
        {.mixup = 1, .cutmix = -0.5},
        {.mixup = kInf},
        {.mixup = 1, .cutmix = double(NAN)},
        {.mixup = 1, .purpose = 1 << 8},
        {.mixup = 1, .stream = 1 << 24}}) {
    CHECK(mix_images(Cuda{}, a) == Status::bad_args);
    CHECK(mix_images(Cpu{}, a) == Status::bad_args);
  }
}

}  // namespace moat::tests
