#include <catch2/catch.hpp>

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
TEST_CASE("crop_flip keeps its bits from release to release", "[crop_flip]") {
  const Tensor images = bytes(), samples = ids();
  CHECK(hash_of(crop_flip(images, samples, 255, 4, Flip::horizontal, kKey)) ==
        "8c95d3f32ef135f00834d2249c3eaf7205277cf78f6fd5fc7cf41d79166d95dc");
  CHECK(hash_of(crop_flip(images, samples, 255, 0, Flip::horizontal, kKey)) ==
        "e04f9d1e0b5b7e49485cf6c1c2ba9229c47fc62f5b6f2b84f53a8a3bca673d23");
  CHECK(hash_of(crop_flip(images, samples, 255, 9, Flip::none, kKey)) ==
        "5292b53f37a5b2e715bb1d7f6a85dd6db3789ca45fce371504b5eb7cb10c52f9");
  CHECK(hash_of(crop_flip(images, samples, 255, 0, Flip::none, kKey)) ==
        "ef33e4dbe521656ad6ce652b29714d0bac595c781a190101d2772fdf12884279");
}

TEST_CASE("crop_flip of views and of nothing", "[crop_flip]") {
  const Tensor images = bytes(), samples = ids();
  const auto of = [](const Tensor& x, const Tensor& id) {
    return crop_flip(x, id, 255, 2, Flip::horizontal, kKey);
  };
  CHECK(of(images.sliced(0, 5, 9), samples.sliced(0, 5, 9)).to_vector<float>() ==
        of(images, samples).sliced(0, 5, 9).to_vector<float>());
  const Tensor wide = images.permuted({0, 2, 1, 3});  // strided
  CHECK(of(wide, samples).to_vector<float>() == of(wide.clone(), samples).to_vector<float>());
  CHECK(of(images.sliced(0, 0, 0), samples.sliced(0, 0, 0)).size() == 0);
  CHECK(of(images.sliced(2, 0, 0), samples).size() == 0);
}

TEST_CASE("loader: an epoch keeps its bits from release to release", "[data][loader]") {
  const data::ImageSet set = data::digits(data::Split::test);
  const data::Loader loader(
      set, {.batch = 32, .seed = 3, .augmentation = {.crop_padding = 2, .flip = Flip::horizontal}});
  Sha256 hash;
  for (const data::Batch& batch : loader.epoch(6))
    for (const Tensor& t : {batch.images, batch.labels, batch.ids}) hash.update(bytes_in(t));
  CHECK(hash.hex() == "8f9cf480e38b6cd33c54230e848eeb5a603d4936d60ca6217ca16d95bd0951f4");
}

}  // namespace moat::tests
