#include "data/loader.h"

#include <catch2/catch.hpp>

#include "data/synthetic.h"

namespace moat::tests {

using namespace data;

namespace {

const engine::Device kGpu{engine::Device::cuda, 0};

// All of an epoch, kept until its end: a batch must outlive the slot that it came through.
std::vector<Batch> batches_of(const Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  std::vector<Batch> batches;
  for (const Batch& batch : loader.epoch(epoch, first_batch)) batches.push_back(batch);
  return batches;
}

void check_same(const std::vector<Batch>& gpu, const std::vector<Batch>& cpu) {
  REQUIRE(gpu.size() == cpu.size());
  for (size_t b = 0; b < cpu.size(); ++b) {
    INFO("batch " << b);
    CHECK(gpu[b].images.device() == kGpu);
    CHECK(gpu[b].labels.device() == kGpu);
    CHECK(gpu[b].ids.device() == kGpu);
    CHECK(gpu[b].images.shape() == cpu[b].images.shape());
    CHECK(gpu[b].images.to_vector<float>() == cpu[b].images.to_vector<float>());
    CHECK(gpu[b].labels.to_vector<int32_t>() == cpu[b].labels.to_vector<int32_t>());
    CHECK(gpu[b].ids.to_vector<int32_t>() == cpu[b].ids.to_vector<int32_t>());
    REQUIRE(gpu[b].is_mixed() == cpu[b].is_mixed());
    if (!cpu[b].is_mixed()) continue;
    CHECK(gpu[b].weight.device() == kGpu);
    CHECK(gpu[b].weight.to_vector<float>() == cpu[b].weight.to_vector<float>());
    CHECK(gpu[b].other_labels.to_vector<int32_t>() == cpu[b].other_labels.to_vector<int32_t>());
  }
}

}  // namespace

TEST_CASE("gpu: a loader on the device gives the CPU's bits", "[gpu][loader]") {
  const ImageSet set = synthetic({.rows = 23, .height = 6, .width = 5});
  const auto mixing = GENERATE(Mixing{}, Mixing{.mixup = 0.5, .cutmix = 1});
  LoaderOptions options;
  options.batch = 4;
  options.seed = 5;
  options.augmentation = {
      .crop = Crop::window, .crop_padding = 2, .flip = Flip::horizontal, .cutout = 3};
  options.augmentation.cutout_fill =
      engine::Tensor::from(std::vector<float>{0.1f, 0.2f, 0.3f}, {3});
  options.mixing = mixing;
  const Loader cpu(set, options);
  options.device = kGpu;
  const Loader gpu(set, options);
  for (int64_t epoch : {0, 1}) {
    const std::vector<Batch> batches = batches_of(gpu, epoch);
    CHECK(batches.size() == 6);  // each slot is used twice
    CHECK(batches.back().size() == 3);
    check_same(batches, batches_of(cpu, epoch));
  }
  check_same(batches_of(gpu, 1, 4), batches_of(cpu, 1, 4));
}

TEST_CASE("gpu: a loader on the device cuts and resamples to the CPU's bits", "[gpu][loader]") {
  const ImageSet set = cropped(synthetic({.rows = 11, .height = 9, .width = 8}), 5);
  for (Crop crop : {Crop::centre, Crop::window, Crop::area}) {
    LoaderOptions options{.batch = 4, .seed = 5};
    options.augmentation = {.crop = crop, .least_area = 0.1, .flip = Flip::horizontal};
    const Loader cpu(set, options);
    options.device = kGpu;
    check_same(batches_of(Loader(set, options), 1), batches_of(cpu, 1));
  }
}

TEST_CASE("gpu: a loader ends early and throws in next", "[gpu][loader]") {
  ImageSet set = synthetic({.rows = 23, .height = 6, .width = 5});
  const Loader loader(set, {.batch = 40, .device = kGpu}),  // a batch of the whole set
      small(set, {.batch = 2, .device = kGpu});
  CHECK(batches_of(loader, 0).at(0).size() == 23);
  for (int taken : {0, 1, 4}) {
    Epoch epoch = small.epoch(0);
    for (int b = 0; b < taken; ++b) CHECK(epoch.next().has_value());
  }
  set.pixels = {};
  Epoch epoch = loader.epoch(0);
  CHECK_THROWS_WITH(epoch.next(), Catch::Contains("must have the same rows"));
}

}  // namespace moat::tests
