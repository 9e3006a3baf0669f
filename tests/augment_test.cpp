#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <numeric>

#include "data/digits.h"
#include "data/loader.h"
#include "engine/io/sha256.h"
#include "engine/ops/augment.h"

namespace moat::tests {

using namespace engine;

namespace {

constexpr int64_t kImages = 41, kHeight = 7, kWidth = 9, kChannels = 3;

Tensor bytes() {
  std::vector<uint8_t> values;
  for (int64_t i = 0; i < kImages; ++i)
    for (int64_t j = 0; j < kHeight * kWidth * kChannels; ++j)
      values.push_back(static_cast<uint8_t>(i * 131 + j * 29 + j * j));
  return Tensor::from(values, {kImages, kHeight, kWidth, kChannels});
}

Tensor ids() {
  std::vector<int32_t> values;
  for (int32_t i = 0; i < kImages; ++i) values.push_back(3 * i + 1);
  return Tensor::from(values, {kImages});
}

const RandomKey kKey{.seed = 7, .purpose = Purpose::augment, .iteration = 5};

std::span<const uint8_t> bytes_in(const Tensor& t) {
  return {static_cast<const uint8_t*>(t.data()), t.nbytes()};
}
std::string hash_of(const Tensor& t) { return sha256(bytes_in(t)); }

}  // namespace

// The bits of the augmentation that data/ had before the kernel: a change would change every run.
TEST_CASE("augment keeps its bits from release to release", "[augment]") {
  const Tensor images = bytes(), samples = ids();
  const auto hash = [&](int padding, Flip flip) {
    return hash_of(augment(images, samples, 255,
                           {.crop = Crop::window, .crop_padding = padding, .flip = flip}, kKey));
  };
  CHECK(hash(4, Flip::horizontal) ==
        "8c95d3f32ef135f00834d2249c3eaf7205277cf78f6fd5fc7cf41d79166d95dc");
  CHECK(hash(0, Flip::horizontal) ==
        "e04f9d1e0b5b7e49485cf6c1c2ba9229c47fc62f5b6f2b84f53a8a3bca673d23");
  CHECK(hash(9, Flip::none) == "5292b53f37a5b2e715bb1d7f6a85dd6db3789ca45fce371504b5eb7cb10c52f9");
  CHECK(hash(0, Flip::none) == "ef33e4dbe521656ad6ce652b29714d0bac595c781a190101d2772fdf12884279");
}

TEST_CASE("augment of views and of nothing", "[augment]") {
  const Tensor images = bytes(), samples = ids();
  const auto of = [](const Tensor& x, const Tensor& id) {
    return augment(x, id, 255,
                   {.crop = Crop::window, .crop_padding = 2, .flip = Flip::horizontal, .cutout = 3},
                   kKey);
  };
  CHECK(of(images.sliced(0, 5, 9), samples.sliced(0, 5, 9)).to_vector<float>() ==
        of(images, samples).sliced(0, 5, 9).to_vector<float>());
  const Tensor wide = images.permuted({0, 2, 1, 3});  // strided
  CHECK(of(wide, samples).to_vector<float>() == of(wide.clone(), samples).to_vector<float>());
  CHECK(of(images.sliced(0, 0, 0), samples.sliced(0, 0, 0)).size() == 0);
  CHECK(of(images.sliced(2, 0, 0), samples).size() == 0);
}

TEST_CASE("the centre of cutout is uniform in the image", "[augment]") {
  // A square of one pixel is its centre.
  constexpr int64_t kMany = 7000, kRows = 5, kColumns = 7;
  std::vector<int32_t> samples(kMany);
  std::iota(samples.begin(), samples.end(), 0);
  const Tensor images = Tensor::from(std::vector<uint8_t>(kMany * kRows * kColumns, 1),
                                     {kMany, kRows, kColumns, 1}),
               y = augment(images, Tensor::from(samples, {kMany}), 1, {.cutout = 1}, kKey);
  std::vector<int> at(kRows * kColumns);
  for (int64_t i = 0; i < kMany; ++i) {
    const float* image = y.data_as<float>() + i * kRows * kColumns;
    const float* centre = std::find(image, image + kRows * kColumns, 0.f);
    REQUIRE(std::count(image, image + kRows * kColumns, 0.f) == 1);
    ++at[static_cast<size_t>(centre - image)];
  }
  for (int count : at) CHECK(count == Approx(200).margin(70));  // five deviations
}

TEST_CASE("cutout holds the fill of each channel, whatever its side", "[augment]") {
  const Tensor images = bytes(), samples = ids(),
               fill = Tensor::from(std::vector<float>{0.25f, 0.5f, 2}, {kChannels});
  const auto cut = [&](int side) {
    return augment(images, samples, 255,
                   {.crop = Crop::window,
                    .crop_padding = 4,
                    .flip = Flip::horizontal,
                    .cutout = side,
                    .cutout_fill = fill},
                   kKey);
  };
  const auto plain =
      augment(images, samples, 255,
              {.crop = Crop::window, .crop_padding = 4, .flip = Flip::horizontal}, kKey)
          .to_vector<float>();
  for (int side : {0, 1, 2, 3, 8, 20, std::numeric_limits<int>::max()}) {
    INFO("side " << side);
    const auto y = cut(side).to_vector<float>();
    int64_t most = 0;
    for (int64_t i = 0; i < kImages; ++i) {
      int64_t area = 0, height = 0;
      for (int64_t r = 0; r < kHeight; ++r) {
        int64_t width = 0;
        for (int64_t s = 0; s < kWidth; ++s) {
          const size_t at = static_cast<size_t>(((i * kHeight + r) * kWidth + s) * kChannels);
          const bool is_fill = y[at + 2] == 2;  // no pixel is
          width += is_fill;
          for (size_t c = 0; c < kChannels; ++c)
            REQUIRE(y[at + c] == (is_fill ? fill.data_as<float>()[c] : plain[at + c]));
        }
        area += width;
        height += width > 0;
      }
      if (height > 0) REQUIRE(area % height == 0);  // a rectangle
      REQUIRE(height <= side);
      most = std::max(most, area);
    }
    const auto largest = [&](int64_t extent) { return std::min<int64_t>(side, extent); };
    CHECK(most == largest(kHeight) * largest(kWidth));
  }
}

TEST_CASE("loader: an epoch keeps its bits from release to release", "[data][loader]") {
  const data::ImageSet set = data::digits(data::Split::test);
  const data::Loader loader(
      set, {.batch = 32,
            .seed = 3,
            .augmentation = {.crop = Crop::window, .crop_padding = 2, .flip = Flip::horizontal}});
  Sha256 hash;
  for (const data::Batch& batch : loader.epoch(6))
    for (const Tensor& t : {batch.images, batch.labels, batch.ids}) hash.update(bytes_in(t));
  CHECK(hash.hex() == "8f9cf480e38b6cd33c54230e848eeb5a603d4936d60ca6217ca16d95bd0951f4");
}

}  // namespace moat::tests
