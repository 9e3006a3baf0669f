#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>

#include "data/augment.h"
#include "data/catalog.h"
#include "data/digits.h"
#include "data/loader.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
using engine::Tensor;

namespace {
std::vector<int32_t> ids_of_epoch(const Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  std::vector<int32_t> ids;
  for (const Batch& batch : loader.epoch(epoch, first_batch))
    for (int32_t id : batch.ids.to_vector<int32_t>()) ids.push_back(id);
  return ids;
}

std::vector<int32_t> sorted(std::vector<int32_t> v) {
  std::sort(v.begin(), v.end());
  return v;
}

Batch bytes_of_all(const ImageSet& set) {
  std::vector<int32_t> rows(static_cast<size_t>(set.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return bytes_of(set, rows);
}

// What augmented() must give, from its description: pad, cut, mirror, erase.
std::vector<float> plainly_augmented(const ImageSet& set, const Augmentation& augmentation,
                                     uint64_t seed, uint32_t epoch) {
  const engine::RandomKey key{
      .seed = seed, .purpose = engine::Purpose::augment, .iteration = epoch};
  const int p = augmentation.crop_padding, padded_width = set.width + 2 * p;
  std::vector<float> out;
  for (int64_t row = 0; row < set.size(); ++row) {
    const auto at = [&](int y, int x, int c) {
      return static_cast<size_t>((y * padded_width + x) * set.channels + c);
    };
    std::vector<float> padded(at(set.height + 2 * p, 0, 0));
    const uint8_t* byte = set.image(row).data();
    for (int y = 0; y < set.height; ++y)
      for (int x = 0; x < set.width; ++x)
        for (int c = 0; c < set.channels; ++c)
          padded[at(y + p, x + p, c)] =
              static_cast<float>(*byte++) / static_cast<float>(set.max_value);
    const auto draw = [&](uint32_t element) -> uint64_t {
      return engine::random_bits(key, static_cast<uint32_t>(set.ids[static_cast<size_t>(row)]),
                                 element);
    };
    const uint64_t windows = 2 * static_cast<uint64_t>(p) + 1;
    const int top = static_cast<int>(draw(0) * windows >> 32),
              left = static_cast<int>(draw(1) * windows >> 32);
    const auto centre = [&](uint32_t element, int extent) {
      return static_cast<int>(draw(element) * static_cast<uint64_t>(extent) >> 32);
    };
    const auto is_in_square = [&](int place, int middle) {
      const int first = middle - augmentation.cutout / 2;
      return place >= first && place < first + augmentation.cutout;
    };
    const bool mirrored = augmentation.flip == Flip::horizontal && draw(2) >= 1u << 31;
    for (int y = 0; y < set.height; ++y)
      for (int x = 0; x < set.width; ++x)
        for (int c = 0; c < set.channels; ++c)
          out.push_back(is_in_square(y, centre(4, set.height)) &&
                                is_in_square(x, centre(5, set.width))
                            ? 0
                            : padded[at(top + y, left + (mirrored ? set.width - 1 - x : x), c)]);
  }
  return out;
}

}  // namespace

TEST_CASE("augmentation has the bits of its description", "[data][augment]") {
  for (const ImageSet& set : {synthetic({.rows = 50, .height = 6, .width = 5}),
                              synthetic({.rows = 50, .height = 3, .width = 8, .channels = 1}),
                              first_rows(digits(Split::validation), 50)})  // max_value 16
    for (int padding : {0, 1, 4, 9})
      for (int cutout : {0, 1, 4}) {
        INFO(set.name << ", padding " << padding << ", cutout " << cutout);
        const Augmentation augmentation{
            .crop = Crop::window,
            .crop_padding = padding,
            .flip = (padding + cutout) % 2 ? Flip::none : Flip::horizontal,
            .cutout = cutout};
        const Batch bytes = bytes_of_all(set),
                    got = augmented(bytes, set.max_value, augmentation, 1ull << 40 | 7, 12);
        const std::vector<float> want = plainly_augmented(set, augmentation, 1ull << 40 | 7, 12);
        REQUIRE(got.images.shape() == bytes.images.shape());
        CHECK(std::memcmp(got.images.data(), want.data(), want.size() * sizeof(float)) == 0);
        CHECK(got.labels.to_vector<int32_t>() == set.labels);
        CHECK(got.ids.to_vector<int32_t>() == set.ids);
      }
}

TEST_CASE("augment says what it needs", "[data][augment]") {
  using engine::Dtype;
  const Tensor images = Tensor::from(std::vector<uint8_t>(18), {2, 3, 3, 1}),
               ids = Tensor::zeros({2}, Dtype::i32);
  const engine::RandomKey key{.purpose = engine::Purpose::augment};
  const auto call = [&](const Tensor& of, const Tensor& named, int max_value) {
    return engine::augment(of, named, max_value, {}, key);
  };
  CHECK(call(images, ids, 1).shape() == images.shape());
  CHECK_THROWS_WITH(call(Tensor{}, ids, 1), Contains("uint8") && Contains("got nothing"));
  CHECK_THROWS_WITH(call(Tensor::zeros({2, 3, 3, 1}), ids, 1), Contains("got float32"));
  CHECK_THROWS_WITH(call(images.reshaped({2, 9}), ids, 1),
                    Contains("[n, height, width, channels]"));
  CHECK_THROWS_WITH(call(images, Tensor{}, 1), Contains("int32 [2]") && Contains("got nothing"));
  CHECK_THROWS_WITH(call(images, Tensor::zeros({3}, Dtype::i32), 1), Contains("got int32 [3]"));
  CHECK_THROWS_WITH(call(images, ids, 0), Contains("max_value must be 1 to 255, got 0"));
  CHECK_THROWS_WITH(engine::augment(images, ids, 1, {.crop_padding = -1}, key),
                    Contains("crop_padding must not be negative") && Contains("got -1"));
  CHECK_THROWS_WITH(engine::augment(images, ids, 1, {.cutout = -2}, key),
                    Contains("cutout must not be negative, got -2"));
  CHECK_THROWS_WITH(
      engine::augment(images, ids, 1, {.cutout = 1, .cutout_fill = Tensor::zeros({3})}, key),
      Contains("cutout_fill must be float32 [1], got float32 [3]"));
}

TEST_CASE("augmentation of a sample does not depend on its batch", "[data][augment]") {
  const ImageSet set = synthetic({.rows = 40, .height = 6, .width = 5});
  const Augmentation augmentation{
      .crop = Crop::window, .crop_padding = 2, .flip = Flip::horizontal, .cutout = 3};
  const Batch whole = augmented(bytes_of_all(set), set.max_value, augmentation, 11, 4);
  std::set<std::vector<float>> seen;
  for (int32_t row : {39, 3, 17, 0}) {
    const Batch one =
        augmented(bytes_of(set, std::vector<int32_t>{row}), set.max_value, augmentation, 11, 4);
    CHECK(one.images.to_vector<float>() == whole.images.sliced(0, row, row + 1).to_vector<float>());
    for (uint32_t epoch = 0; epoch < 8; ++epoch)
      seen.insert(augmented(bytes_of(set, std::vector<int32_t>{row}), set.max_value, augmentation,
                            11, epoch)
                      .images.to_vector<float>());
  }
  CHECK(seen.size() > 20);  // epochs differ
  CHECK(augmented(bytes_of_all(set), set.max_value, {}, 11, 4).images.to_vector<float>() ==
        batch_of(set).images.to_vector<float>());
  CHECK_THROWS_WITH(augmented(bytes_of_all(set), set.max_value, {.crop_padding = -1}, 0, 0),
                    Contains("-1"));
}

TEST_CASE("augmentation gives a window of the padded image or its mirror", "[data][augment]") {
  const ImageSet set = synthetic({.rows = 60, .height = 4, .width = 5, .channels = 2});
  const std::vector<float> images = batch_of(set).images.to_vector<float>();
  for (int padding : {1, 3, 6})  // 6: the window may miss the image
    for (Flip flip : {Flip::none, Flip::horizontal}) {
      const std::vector<float> got =
          augmented(bytes_of_all(set), set.max_value,
                    {.crop = Crop::window, .crop_padding = padding, .flip = flip}, 9, 1)
              .images.to_vector<float>();
      const auto window = [&](int i, int dy, int dx, bool mirrored) {
        std::vector<float> out;
        for (int y = dy; y < dy + 4; ++y)
          for (int k = 0; k < 5; ++k)
            for (int c = 0; c < 2; ++c) {
              const int x = dx + (mirrored ? 4 - k : k);
              const bool inside = y >= 0 && y < 4 && x >= 0 && x < 5;
              out.push_back(inside ? images[static_cast<size_t>(((i * 4 + y) * 5 + x) * 2 + c)]
                                   : 0);
            }
        return out;
      };
      for (int i = 0; i < 60; ++i) {
        const std::vector<float> image(got.begin() + i * 40, got.begin() + (i + 1) * 40);
        bool found = false;
        for (int dy = -padding; dy <= padding; ++dy)
          for (int dx = -padding; dx <= padding; ++dx)
            found = found || image == window(i, dy, dx, false) ||
                    (flip == Flip::horizontal && image == window(i, dy, dx, true));
        REQUIRE(found);
      }
    }
}

TEST_CASE("augmentation crops every window and flips half of the images", "[data][augment]") {
  // One bright pixel in the middle of a black 5x5 image shows where the window lay.
  const int n = 5000, padding = 2;
  ImageSet set{.height = 5, .width = 5, .channels = 1, .class_names = {"one"}};
  std::vector<uint8_t> pixels;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < 25; ++j) pixels.push_back(j == 12 ? 255 : j == 13 ? 51 : 0);
    set.labels.push_back(0);
    set.ids.push_back(i);
  }
  set.pixels = std::move(pixels);
  const Tensor images =
      augmented(bytes_of_all(set), set.max_value,
                {.crop = Crop::window, .crop_padding = padding, .flip = Flip::horizontal}, 1, 0)
          .images;
  std::vector<int> at(25);
  int flipped = 0, told = 0;
  for (int i = 0; i < n; ++i) {
    const float* image = images.data_as<float>() + i * 25;
    const auto bright = std::max_element(image, image + 25) - image;
    REQUIRE(image[bright] == 1);
    ++at[static_cast<size_t>(bright)];
    const auto column = bright % 5;
    if (column == 0 || column == 4) continue;
    ++told;
    flipped += image[bright - 1] > 0;
  }
  for (int count : at) CHECK(count == Approx(n / 25.0).margin(70));  // five deviations
  CHECK(flipped == Approx(told / 2.0).margin(140));
}

TEST_CASE("loader: the order depends on seed and epoch alone", "[data][loader]") {
  const ImageSet set = digits(Split::test);
  const Loader loader(set, {.batch = 32, .seed = 5}), other_batch(set, {.batch = 50, .seed = 5}),
      other_seed(set, {.batch = 32, .seed = 6});
  const auto first = ids_of_epoch(loader, 0);
  CHECK(sorted(first) == set.ids);  // every sample once
  CHECK(first != set.ids);
  CHECK(first == ids_of_epoch(loader, 0));
  CHECK(first == ids_of_epoch(other_batch, 0));
  CHECK(first != ids_of_epoch(loader, 1));
  CHECK(first != ids_of_epoch(other_seed, 0));
  CHECK(sorted(ids_of_epoch(loader, 1)) == set.ids);
}

TEST_CASE("loader: the last batch, resuming and augmentation", "[data][loader]") {
  const ImageSet set = digits(Split::test);  // 359 = 11 * 32 + 7
  const LoaderOptions options{.batch = 32,
                              .augmentation = {.crop = Crop::window, .crop_padding = 1}};
  const Loader loader(set, options);
  CHECK(loader.batches() == 12);

  const auto all = ids_of_epoch(loader, 2), rest = ids_of_epoch(loader, 2, 5);
  CHECK(rest == std::vector<int32_t>(all.begin() + 5 * 32, all.end()));
  CHECK(ids_of_epoch(loader, 2, 12).empty());

  Epoch epoch = loader.epoch(2, 5);
  const Batch batch = *epoch.next();
  std::vector<int32_t> rows;  // ids grow with the row
  for (int32_t id : batch.ids.to_vector<int32_t>())
    rows.push_back(static_cast<int32_t>(std::lower_bound(set.ids.begin(), set.ids.end(), id) -
                                        set.ids.begin()));
  CHECK(batch.images.to_vector<float>() ==
        augmented(bytes_of(set, rows), set.max_value, options.augmentation, 0, 2)
            .images.to_vector<float>());
}

TEST_CASE("loader: batches are mixed after they are augmented", "[data][loader]") {
  const ImageSet set = synthetic({.rows = 23, .height = 6, .width = 5});
  const Augmentation augmentation{
      .crop = Crop::window, .crop_padding = 1, .flip = Flip::horizontal};
  const Mixing mixing{.mixup = 0.7, .cutmix = 1};
  const Loader loader(set, {.batch = 5, .seed = 4, .augmentation = augmentation, .mixing = mixing}),
      plain(set, {.batch = 5, .seed = 4, .augmentation = augmentation});
  for (int64_t first : {0, 3}) {
    Epoch epoch = loader.epoch(2, first), plain_epoch = plain.epoch(2, first);
    for (int64_t b = first; b < loader.batches(); ++b) {
      const Batch got = epoch.next().value(), batch = plain_epoch.next().value(),
                  want = mixed(batch, mixing, 4, 2);
      CHECK_FALSE(batch.is_mixed());
      CHECK(got.is_mixed());
      CHECK(got.images.to_vector<float>() == want.images.to_vector<float>());
      CHECK(got.weight.to_vector<float>() == want.weight.to_vector<float>());
      CHECK(got.ids.to_vector<int32_t>() == batch.ids.to_vector<int32_t>());
      const auto labels = batch.labels.to_vector<int32_t>(), one = got.labels.to_vector<int32_t>(),
                 other = got.other_labels.to_vector<int32_t>();
      for (size_t i = 0; i < labels.size(); ++i) {
        const int32_t own = labels[i], next = labels[(i + 1) % labels.size()];
        CHECK(((one[i] == own && other[i] == next) || (one[i] == next && other[i] == own)));
      }
    }
  }
}

TEST_CASE("loader: its thread starts no pool of threads", "[data][loader]") {
  const std::filesystem::path tasks = "/proc/self/task";  // an entry per thread
  if (!std::filesystem::exists(tasks)) {
    WARN("skipped: no /proc");
    return;
  }
  const auto threads = [&] {
    return std::distance(std::filesystem::directory_iterator(tasks), {});
  };
  const ImageSet set = synthetic({.rows = 2048});  // a parallel loop over a batch would be shared
  const Loader loader(set, {.batch = 512,
                            .augmentation = {.crop = Crop::window,
                                             .crop_padding = 4,
                                             .flip = Flip::horizontal,
                                             .cutout = 8},
                            .mixing = {.mixup = 1, .cutmix = 1}});
  Tensor::zeros({512, 32, 32, 3});  // the caller has its pool
  const auto before = threads();
  Epoch epoch = loader.epoch(0);
  CHECK(epoch.next().has_value());
  CHECK(threads() <= before + 1);
}

TEST_CASE("loader: ends early, throws in next, refuses bad options", "[data][loader]") {
  const ImageSet set = digits(Split::test);
  const Loader loader(set, {.batch = 4});
  for (int i = 0; i < 50; ++i) {
    Epoch epoch = loader.epoch(i);
    for (int b = 0; b < i % 5; ++b) CHECK(epoch.next().has_value());
  }
  {
    Epoch epoch = loader.epoch(0, loader.batches());
    CHECK_FALSE(epoch.next().has_value());
    CHECK_FALSE(epoch.next().has_value());
  }
  ImageSet damaged = set;
  const Loader failing(damaged, {.batch = 4});
  damaged.pixels = {};
  Epoch epoch = failing.epoch(0);
  CHECK_THROWS_WITH(epoch.next(), Contains("must have the same rows"));
  CHECK_THROWS_AS(epoch.next(), engine::Error);

  CHECK_THROWS_WITH(Loader(set, {.batch = 0}), Contains("batch"));
  CHECK_THROWS_WITH(Loader(set, {.augmentation = {.crop_padding = -1}}),
                    Contains("must not be negative, got -1 and 0"));
  CHECK_THROWS_WITH(Loader(set, {.augmentation = {.cutout = -3}}), Contains("got 0 and -3"));
  Epoch badly_mixed = Loader(set, {.mixing = {.mixup = -1}}).epoch(0);
  CHECK_THROWS_WITH(badly_mixed.next(), Contains("mixup and cutmix must be"));
  CHECK_THROWS_WITH(loader.epoch(-1), Contains("epoch"));
  CHECK_THROWS_WITH(loader.epoch(0, 1000), Contains("first_batch"));
  const ImageSet none = first_rows(set, 0);
  CHECK(ids_of_epoch(Loader(none, {}), 0).empty());
}

}  // namespace moat::tests
