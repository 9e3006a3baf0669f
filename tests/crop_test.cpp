// What a model sees of a larger image: the middle, a window, a box that is resampled.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "data/catalog.h"
#include "data/image.h"
#include "data/loader.h"
#include "data/synthetic.h"
#include "engine/io/sha256.h"
#include "engine/ops/augment.h"
#include "kernels/vision/augment_draw.h"
#include "kernels/vision/triangle.h"

namespace moat::tests {

using namespace engine;
using Catch::Contains;
using data::ImageSet;
using kernels::centred;

namespace {

// One channel whose byte tells the place, of sides up to 15.
ImageSet places(int height, int width, int rows) {
  ImageSet set{.height = height, .width = width, .channels = 1, .class_names = {"one"}};
  std::vector<uint8_t> pixels;
  for (int i = 0; i < rows; ++i) {
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) pixels.push_back(static_cast<uint8_t>(16 * y + x));
    set.labels.push_back(0);
    set.ids.push_back(i);
  }
  set.pixels = std::move(pixels);
  return set;
}

std::vector<int32_t> all_rows(const ImageSet& set) {
  std::vector<int32_t> rows(set.labels.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// The bytes of one image of a batch.
std::vector<int> bytes_of_image(const Tensor& images, int64_t i) {
  std::vector<int> out;
  for (float v : images.sliced(0, i, i + 1).to_vector<float>())
    out.push_back(static_cast<int>(std::lround(v * 255)));
  return out;
}

const RandomKey kKey{.seed = 7, .purpose = Purpose::augment, .iteration = 5};

// What the kernel draws for one image.
kernels::AugmentDraw drawn(int height, int width, double least_area, int32_t id) {
  kernels::Augment a{};
  a.n = a.channels = a.y_height = a.y_width = 1;
  a.height = height, a.width = width;
  a.max_value = 255;
  a.crop = Crop::area;
  a.least_area = least_area;
  a.flip = Flip::horizontal;
  a.seed = kKey.seed, a.iteration = kKey.iteration;
  a.purpose = static_cast<uint32_t>(kKey.purpose);
  return kernels::box_of(a, id);
}

}  // namespace

TEST_CASE("the middle of an image, a half to the even number", "[augment][crop]") {
  // torchvision: int(round((height - crop) / 2.0))
  const std::vector<int> want{0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5};
  for (int rest = 0; rest < 11; ++rest)
    CHECK(centred(5 + rest, 5) == want[static_cast<size_t>(rest)]);

  const ImageSet set = data::cropped(places(7, 8, 2), 4);  // from row 2, column 2
  CHECK(set.height == 4);
  CHECK(set.stored_width() == 8);
  CHECK_NOTHROW(data::validate(set));
  const data::Batch batch = data::batch_of(set);
  REQUIRE(batch.images.shape() == Shape{2, 4, 4, 1});
  for (int64_t i = 0; i < 2; ++i)
    CHECK(bytes_of_image(batch.images, i) == std::vector<int>{34, 35, 36, 37, 50, 51, 52, 53,  //
                                                              66, 67, 68, 69, 82, 83, 84, 85});
}

TEST_CASE("a cropped set is another one, and its rows are cut alike", "[data][crop]") {
  const ImageSet whole = places(7, 9, 5), set = data::cropped(whole, 4);
  CHECK(data::cropped(whole, 0).margin_height == 0);
  CHECK(data::content_hash(data::cropped(whole, 0)) == data::content_hash(whole));
  CHECK(data::content_hash(set) != data::content_hash(whole));
  CHECK(data::content_hash(set) != data::content_hash(data::cropped(whole, 5)));
  CHECK(data::cropped(set, 6).stored_width() == 9);  // from what is stored
  const Tensor all = data::batch_of(set).images;
  CHECK(data::batch_of(data::select(set, std::vector<int32_t>{3, 1})).images.to_vector<float>() ==
        all.sliced(0, 0, 2).to_vector<float>());
  CHECK(data::batch_of(data::first_rows(set, 2)).images.to_vector<float>() ==
        all.sliced(0, 0, 2).to_vector<float>());
  CHECK(data::channel_statistics(set).mean == data::channel_statistics(whole).mean);
  for (int side : {-1, 8})
    CHECK_THROWS_WITH(data::cropped(whole, side),
                      Contains("data.crop") && Contains("7x9") && Contains(std::to_string(side)));
  const data::DataConfig config{.name = "synthetic", .crop = 5};
  CHECK(data::load(config, data::Split::test).height == 5);
}

TEST_CASE("a window lies anywhere in a larger image", "[augment][crop]") {
  constexpr int kMany = 6000, kHeight = 6, kWidth = 7, kSide = 4;
  const ImageSet set = data::cropped(places(kHeight, kWidth, kMany), kSide);
  const Tensor bytes = data::bytes_of(set, all_rows(set)).images, ids = data::batch_of(set).ids;
  const auto at = [&](const Augmentation& how) {
    std::vector<int> count(256);
    const Tensor y = augment(bytes, ids, 255, how, kKey);
    for (int i = 0; i < kMany; ++i) {
      const std::vector<int> image = bytes_of_image(y, i);
      const int first = how.flip == Flip::horizontal && image[0] > image[1] ? image[3] : image[0];
      for (int j = 0; j < kSide * kSide; ++j) {  // contiguous, mirrored or not
        const int s = first == image[0] ? j % kSide : kSide - 1 - j % kSide;
        REQUIRE(image[static_cast<size_t>(j)] == first + 16 * (j / kSide) + s);
      }
      ++count[static_cast<size_t>(first)];
    }
    return count;
  };
  for (Flip flip : {Flip::none, Flip::horizontal}) {
    const std::vector<int> count =
        at({.height = kSide, .width = kSide, .crop = Crop::window, .flip = flip});
    for (int y = 0; y <= kHeight - kSide; ++y)
      for (int x = 0; x <= kWidth - kSide; ++x)
        CHECK(count[static_cast<size_t>(16 * y + x)] ==
              Approx(kMany / 12.0).margin(110));  // five deviations
    CHECK(std::accumulate(count.begin(), count.end(), 0) == kMany);
  }
  // With zeros around the image windows reach over its border.
  const Tensor padded =
      augment(bytes, ids, 255,
              {.height = kSide, .width = kSide, .crop = Crop::window, .crop_padding = 2}, kKey);
  std::set<std::vector<int>> seen;
  for (int i = 0; i < kMany; ++i) seen.insert(bytes_of_image(padded, i));
  CHECK(seen.size() == 7 * 8);  // places, of which none is all zeros
}

TEST_CASE("a box is as random as it says", "[augment][crop]") {
  constexpr int kMany = 20000, kHeight = 300, kWidth = 400;
  double area = 0, log_shape = 0, square = 0, row = 0, flipped = 0;
  double least_shape = 9, most_shape = 0, least = 1, most = 0;
  for (int32_t id = 0; id < kMany; ++id) {
    const kernels::AugmentDraw box = drawn(kHeight, kWidth, 0.08, id);
    REQUIRE(box.dy >= 0);
    REQUIRE(box.dx >= 0);
    REQUIRE(box.dy + box.height <= kHeight);
    REQUIRE(box.dx + box.width <= kWidth);
    const double share = double(box.height) * box.width / (kHeight * kWidth),
                 shape = double(box.width) / box.height;
    least = std::min(least, share), most = std::max(most, share);
    least_shape = std::min(least_shape, shape), most_shape = std::max(most_shape, shape);
    area += share / kMany;
    log_shape += std::log(shape) / kMany;
    square += std::log(shape) * std::log(shape) / kMany;
    row += box.height < kHeight ? double(box.dy) / (kHeight - box.height) / kMany : 0.5 / kMany;
    flipped += box.flip;
  }
  CHECK(least == Approx(0.08).margin(0.002));
  CHECK(most <= 1);
  CHECK(most > 0.97);
  CHECK(least_shape == Approx(0.75).margin(0.01));
  CHECK(most_shape == Approx(4 / 3.0).margin(0.015));
  // 200,000 draws of torchvision's algorithm, within five deviations of ours: large boxes fit less
  // often, high ones in such an image too.
  CHECK(area == Approx(0.4331).margin(0.009));
  CHECK(log_shape == Approx(0.0309).margin(0.006));
  CHECK(square == Approx(0.0279).margin(0.001));
  CHECK(row == Approx(0.5).margin(0.01));
  CHECK(flipped == Approx(kMany / 2).margin(350));
}

TEST_CASE("where no box fits the middle one is taken", "[augment][crop]") {
  struct Case {
    int height, width, want_height, want_width;
  };
  // The whole area has the image's shape alone, which is outside of the range but for the first.
  for (const auto& [height, width, want_height, want_width] :
       {Case{90, 100, 90, 100}, Case{60, 200, 60, 80}, Case{200, 60, 80, 60}, Case{1, 9, 1, 1}}) {
    CAPTURE(height, width);
    const kernels::AugmentDraw box = drawn(height, width, 1, 3);
    CHECK(box.height == want_height);
    CHECK(box.width == want_width);
    CHECK(box.dy == centred(height, want_height));
    CHECK(box.dx == centred(width, want_width));
  }
}

TEST_CASE("a box is resampled as data::resized does", "[augment][crop]") {
  // 37 x 29 to 16 x 20: boxes are enlarged and reduced.
  const ImageSet set = data::synthetic({.rows = 60, .height = 37, .width = 29});
  const std::vector<int32_t> rows = all_rows(set);
  const data::Batch bytes = data::bytes_of(set, rows);
  const Augmentation how{
      .height = 16, .width = 20, .crop = Crop::area, .least_area = 0.05, .flip = Flip::horizontal};
  const Tensor y = augment(bytes.images, bytes.ids, 255, how, kKey);
  REQUIRE(y.shape() == Shape{60, 16, 20, 3});
  int enlarged = 0, reduced = 0;
  for (int32_t i : rows) {
    kernels::AugmentDraw box = drawn(37, 29, 0.05, set.ids[static_cast<size_t>(i)]);
    enlarged += box.height < 16 && box.width < 20;
    reduced += box.height > 16 && box.width > 20;
    data::Image cut{box.height, box.width, 3, {}};
    for (int r = 0; r < box.height; ++r) {
      const auto* from = set.image(i).data() + ((box.dy + r) * 29 + box.dx) * 3;
      cut.pixels.insert(cut.pixels.end(), from, from + box.width * 3);
    }
    const data::Image want = data::resized(cut, 16, 20);
    const float* got = y.data_as<float>() + i * 16 * 20 * 3;
    for (int r = 0; r < 16; ++r)
      for (int s = 0; s < 20; ++s)
        for (int c = 0; c < 3; ++c, ++got) {
          const int x = box.flip ? 19 - s : s;
          const double byte = want.pixels[static_cast<size_t>((r * 20 + x) * 3 + c)];
          REQUIRE(std::abs(*got * 255 - byte) < 0.501);  // rounded there
        }
  }
  CHECK(enlarged > 0);
  CHECK(reduced > 0);
}

TEST_CASE("resampling keeps constants and images of the same size to the bit", "[augment][crop]") {
  const ImageSet set = data::synthetic({.rows = 3, .height = 11, .width = 11});
  const data::Batch bytes = data::bytes_of(set, all_rows(set));
  // Of the whole area only the whole image fits.
  CHECK(augment(bytes.images, bytes.ids, 255, {.crop = Crop::area, .least_area = 1}, kKey)
            .to_vector<float>() == data::batch_of(set).images.to_vector<float>());
  const std::vector<uint8_t> flat(2 * 12 * 9, 201);
  const Tensor y = augment(Tensor::from(flat, {2, 12, 9, 1}), Tensor::zeros({2}, Dtype::i32), 255,
                           {.height = 7, .width = 8, .crop = Crop::area, .least_area = 0.1}, kKey);
  for (float v : y.to_vector<float>()) REQUIRE(v == 201.f / 255.f);
}

TEST_CASE("crops keep their bits from release to release", "[augment][crop]") {
  const ImageSet set = data::synthetic({.rows = 40, .height = 13, .width = 10});
  const data::Batch bytes = data::bytes_of(set, all_rows(set));
  const auto hash = [&](const Augmentation& how) {
    const Tensor y = augment(bytes.images, bytes.ids, 255, how, kKey);
    return sha256(std::span(static_cast<const uint8_t*>(y.data()), y.nbytes()));
  };
  CHECK(hash({.height = 8, .width = 7, .crop = Crop::window, .flip = Flip::horizontal}) ==
        "fa50f0307553dfbea56739640c903cf14fb5d3890c7764454864e20b87ada3fa");
  CHECK(hash({.height = 8,
              .width = 7,
              .crop = Crop::area,
              .least_area = 0.08,
              .flip = Flip::horizontal,
              .cutout = 3}) == "64ffd2f20b96fae64f4cbeca5f94e248cbea2a5175cb3c0843a0f2f94e486dee");
}

TEST_CASE("a loader cuts what it trains on from what is stored", "[data][loader][crop]") {
  const ImageSet set = data::cropped(data::synthetic({.rows = 20, .height = 9, .width = 8}), 6);
  const Augmentation how{.crop = Crop::window, .flip = Flip::horizontal};
  const data::Loader loader(set, {.batch = 8, .seed = 4, .augmentation = how}),
      plain(set, {.batch = 8});
  const RandomKey key{.seed = 4, .purpose = Purpose::augment, .iteration = 2};
  for (const data::Batch& batch : loader.epoch(2)) {
    REQUIRE(batch.images.dim(1) == 6);
    std::vector<int32_t> rows = batch.ids.to_vector<int32_t>();
    const data::Batch bytes = data::bytes_of(set, rows);
    Augmentation sized = how;
    sized.height = sized.width = 6;
    CHECK(batch.images.to_vector<float>() ==
          augment(bytes.images, batch.ids, 255, sized, key).to_vector<float>());
  }
  for (const data::Batch& batch : plain.epoch(0))
    CHECK(batch.images.to_vector<float>() ==
          data::batch_of(set, batch.ids.to_vector<int32_t>()).images.to_vector<float>());
}

TEST_CASE("augment says which crops there are", "[augment][crop]") {
  const Tensor images = Tensor::from(std::vector<uint8_t>(30), {2, 3, 5, 1}),
               ids = Tensor::zeros({2}, Dtype::i32);
  const auto call = [&](const Augmentation& how) { return augment(images, ids, 1, how, kKey); };
  CHECK_THROWS_WITH(call({.height = 4}), Contains("3x5") && Contains("got 4x0"));
  CHECK_THROWS_WITH(call({.width = -1}), Contains("got 0x-1"));
  CHECK_THROWS_WITH(call({.crop_padding = 1}), Contains("Crop::window"));
  CHECK_THROWS_WITH(call({.crop = Crop::area, .least_area = 0}), Contains("least_area"));
  CHECK_THROWS_WITH(call({.crop = Crop::area, .least_area = 1.1}), Contains("got 1.1"));
  const Tensor long_one = Tensor::zeros({1, 1, 4097, 1}, Dtype::u8);
  CHECK_THROWS_WITH(augment(long_one, Tensor::zeros({1}, Dtype::i32), 1,
                            {.crop = Crop::area, .least_area = 0.5}, kKey),
                    Contains("up to 4096"));
}

TEST_CASE("squared: both sides, or the middle after the shorter side", "[image][crop]") {
  using data::Image;
  using data::ResizeBy;
  Image wide{2, 7, 1, {}};
  for (int i = 0; i < 14; ++i) wide.pixels.push_back(static_cast<uint8_t>(10 * i));
  const Image kept = data::squared(wide, 2, ResizeBy::shorter_side);  // columns from round(2.5)
  CHECK(kept.height == 2);
  CHECK(kept.width == 2);
  CHECK(kept.pixels == std::vector<uint8_t>{20, 30, 90, 100});
  CHECK(data::squared(wide, 3, ResizeBy::both_sides).pixels == data::resized(wide, 3, 3).pixels);
  // 4 * 7 / 2 columns of which those from 5 on are kept.
  const Image large = data::resized(wide, 4, 14),
              middle = data::squared(wide, 4, ResizeBy::shorter_side);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x)
      CHECK(middle.pixels[static_cast<size_t>(4 * y + x)] ==
            large.pixels[static_cast<size_t>(14 * y + x + 5)]);
  Image high{7, 2, 1, wide.pixels};
  CHECK(data::squared(high, 2, ResizeBy::shorter_side).pixels ==
        std::vector<uint8_t>{40, 50, 60, 70});
  for (ResizeBy by : {ResizeBy::both_sides, ResizeBy::shorter_side})
    CHECK(data::parse_resize_by(name_of(by)) == by);
  CHECK_THROWS_WITH(data::parse_resize_by("longer-side"), Contains("got \"longer-side\""));
}

}  // namespace moat::tests
