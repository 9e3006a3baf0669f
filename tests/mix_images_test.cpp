#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <numeric>

#include "engine/io/sha256.h"
#include "engine/ops/augment.h"

namespace moat::tests {

using namespace engine;
using Catch::Matchers::Contains;

namespace {

const RandomKey kKey{.seed = 7, .purpose = Purpose::augment, .iteration = 5, .stream = 1};

Tensor numbered(int64_t n, int32_t first = 0) {
  std::vector<int32_t> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), first);
  return Tensor::from(values, {n});
}

Tensor pixels(const Shape& shape) {
  return random_uniform(shape, numbered(shape[0]), {.purpose = Purpose::test}, 0, 1);
}

// The shares of the n images with ids 0, 1, … in their mixes. Labels are row numbers.
std::vector<double> shares(int64_t n, const Mixing& how, const Shape& image,
                           uint32_t iteration = 0) {
  const MixedImages mix =
      mix_images(Tensor::zeros({n, image[0], image[1], 1}), numbered(n), numbered(n), how,
                 {.seed = 3, .purpose = Purpose::augment, .iteration = iteration, .stream = 1});
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const double weight = mix.weight.data_as<float>()[i];
    const int32_t label = mix.labels.data_as<int32_t>()[i],
                  other = mix.other_labels.data_as<int32_t>()[i];
    REQUIRE(weight >= 0.5);
    REQUIRE(weight <= 1);
    REQUIRE(std::min(label, other) == std::min<int64_t>(i, (i + 1) % n));
    REQUIRE(std::max(label, other) == std::max<int64_t>(i, (i + 1) % n));
    out.push_back(label == i ? weight : 1 - weight);
  }
  return out;
}

double uniform_cdf(double x) { return x; }
double arcsine_cdf(double x) { return 2 / std::numbers::pi * std::asin(std::sqrt(x)); }
double parabola_cdf(double x) { return x * x * (3 - 2 * x); }

// lambda of one image by the formula of Student's t distribution, with the standard library.
double lambda_of(double alpha, int32_t id, const RandomKey& key) {
  const auto bits = [&](uint32_t element) {
    return random_bits(key, static_cast<uint32_t>(id), element);
  };
  const double u = (bits(1) + 0.5) / std::pow(2., 32),
               t = std::sqrt(std::pow(u, -1 / alpha) - 1) *
                   std::cos(2 * std::numbers::pi * bits(2) / std::pow(2., 32));
  return 0.5 + 0.5 * t / std::sqrt(1 + t * t);
}

}  // namespace

TEST_CASE("mix_images draws its shares from Beta(alpha, alpha)", "[mix_images]") {
  // Kolmogorov and Smirnov: the largest gap times sqrt(n) exceeds 1.95 once in a thousand.
  constexpr int64_t kMany = 20000;
  struct Law {
    double alpha, (*cdf)(double);
  };
  for (const auto& [alpha, cdf] :
       {Law{0.5, arcsine_cdf}, Law{1, uniform_cdf}, Law{2, parabola_cdf}}) {
    INFO("alpha " << alpha);
    std::vector<double> x = shares(kMany, {.mixup = alpha}, {1, 1});
    std::sort(x.begin(), x.end());
    double gap = 0;
    for (size_t i = 0; i < x.size(); ++i)
      gap = std::max({gap, std::abs(cdf(x[i]) - double(i) / kMany),
                      std::abs(cdf(x[i]) - double(i + 1) / kMany)});
    CHECK(gap * std::sqrt(double(kMany)) < 1.95);
  }
}

TEST_CASE("mix_images: the moments of the shares for any alpha", "[mix_images]") {
  constexpr int64_t kMany = 20000;
  for (double alpha : {1e-3, 0.2, 0.8, 3., 40., 1000.}) {
    INFO("alpha " << alpha);
    const std::vector<double> x = shares(kMany, {.mixup = alpha}, {1, 1});
    double mean = 0, second = 0, fourth = 0;
    for (double v : x) {
      mean += v / kMany;
      second += std::pow(v - 0.5, 2) / kMany;
      fourth += std::pow(v - 0.5, 4) / kMany;
    }
    const double variance = 1 / (4 * (2 * alpha + 1)),
                 kurtosis = 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3));
    CHECK(mean == Approx(0.5).margin(5 * std::sqrt(variance / kMany)));
    CHECK(second == Approx(variance).epsilon(0.05));  // five deviations of the estimate, or more
    CHECK(fourth == Approx(kurtosis).epsilon(0.12));
  }
}

// With a centre uniform in the image a side of length s (of 1) keeps s - s^2 / 4 of itself on the
// average; s = sqrt(1 - lambda) and lambda uniform give E[(s - s^2 / 4)^2] = 1/2 - 1/5 + 1/48.
TEST_CASE("mix_images: the area that CutMix takes from the other image", "[mix_images]") {
  constexpr int64_t kImages = 100, kSide = 200;
  double area = 0;
  for (uint32_t iteration = 0; iteration < 40; ++iteration)
    for (double share : shares(kImages, {.cutmix = 1}, {kSide, kSide}, iteration))
      area += (1 - share) / (40 * kImages);
  // 4,000 draws deviate by 0.004, and a side loses half a pixel of 200 to rounding.
  CHECK(area == Approx(1. / 2 - 1. / 5 + 1. / 48).margin(0.02));
}

TEST_CASE("mix_images has the values of its description", "[mix_images]") {
  constexpr int64_t kImages = 60, kHeight = 7, kWidth = 9, kChannels = 3;
  const Tensor x = pixels({kImages, kHeight, kWidth, kChannels}), labels = numbered(kImages, 100),
               ids = numbered(kImages, 1000);
  int pasted = 0;
  for (const Mixing& how : {Mixing{.mixup = 0.4}, {.cutmix = 0.8}, {.mixup = 0.4, .cutmix = 0.8}}) {
    const MixedImages mix = mix_images(x, labels, ids, how, kKey);
    for (int64_t i = 0; i < kImages; ++i) {
      const int32_t id = ids.data_as<int32_t>()[i];
      const auto draw = [&](uint32_t element) -> uint64_t {
        return random_bits(kKey, static_cast<uint32_t>(id), element);
      };
      const bool is_cutmix = how.cutmix > 0 && (how.mixup == 0 || draw(0) >= 1u << 31);
      const double lambda = lambda_of(is_cutmix ? how.cutmix : how.mixup, id, kKey);
      pasted += is_cutmix && how.mixup > 0;
      const auto is_in_box = [&](int64_t at, uint32_t element, int64_t extent) {
        const auto side = static_cast<int64_t>(double(extent) * std::sqrt(1 - lambda)),
                   first = static_cast<int64_t>(draw(element) * uint64_t(extent) >> 32) - side / 2;
        return at >= first && at < first + side;
      };
      int area = 0;
      const int64_t next = (i + 1) % kImages;
      for (int64_t r = 0; r < kHeight; ++r)
        for (int64_t s = 0; s < kWidth; ++s) {
          const bool is_pasted = is_cutmix && is_in_box(r, 4, kHeight) && is_in_box(s, 5, kWidth);
          area += is_pasted;
          for (int64_t c = 0; c < kChannels; ++c) {
            const auto at = [&](const Tensor& t, int64_t image) {
              return t.data_as<float>()[((image * kHeight + r) * kWidth + s) * kChannels + c];
            };
            if (is_cutmix)
              REQUIRE(at(mix.images, i) == at(x, is_pasted ? next : i));
            else
              REQUIRE(at(mix.images, i) ==
                      Approx(lambda * at(x, i) + (1 - lambda) * at(x, next)).margin(2e-7));
          }
        }
      const double share = is_cutmix ? 1 - area / double(kHeight * kWidth) : lambda;
      REQUIRE(mix.weight.data_as<float>()[i] == Approx(std::max(share, 1 - share)).margin(1e-7));
      REQUIRE(mix.labels.data_as<int32_t>()[i] == 100 + (share >= 0.5 ? i : next));
      REQUIRE(mix.other_labels.data_as<int32_t>()[i] == 100 + (share >= 0.5 ? next : i));
    }
  }
  CHECK(pasted == Approx(kImages / 2.).margin(19));  // five deviations
}

TEST_CASE("mix_images: an image's mix needs its id and the image behind it", "[mix_images]") {
  const Tensor x = pixels({9, 4, 5, 2}), ids = numbered(9, 40);
  const Mixing how{.mixup = 1, .cutmix = 1};
  const MixedImages all = mix_images(x, ids, ids, how, kKey);
  for (int64_t i = 0; i < 8; ++i) {
    const auto two = [&](const Tensor& t) { return t.sliced(0, i, i + 2); };
    const MixedImages pair = mix_images(two(x), two(ids), two(ids), how, kKey);
    const auto first = [](const Tensor& t, int64_t at) {
      return t.sliced(0, at, at + 1).to(Dtype::f64).to_vector<double>();
    };
    CHECK(first(pair.images, 0) == first(all.images, i));
    CHECK(first(pair.labels, 0) == first(all.labels, i));
    CHECK(first(pair.other_labels, 0) == first(all.other_labels, i));
    CHECK(first(pair.weight, 0) == first(all.weight, i));
  }
}

TEST_CASE("mix_images: pixels stay in [0, 1], alone and in company", "[mix_images]") {
  const Tensor ones = Tensor::full({500, 3, 3, 1}, 1), ids = numbered(500);
  const MixedImages mix = mix_images(ones, ids, ids, {.mixup = 0.3, .cutmix = 1}, kKey);
  for (float value : mix.images.to_vector<float>()) REQUIRE(value == 1);
  const Tensor one = pixels({1, 5, 4, 3}), id = numbered(1, 6);  // mixed with itself
  const auto before = one.to_vector<float>(),
             after = mix_images(one, id, id, {.mixup = 1}, kKey).images.to_vector<float>();
  for (size_t i = 0; i < before.size(); ++i) CHECK(after[i] == Approx(before[i]).epsilon(1e-6));
  CHECK(mix_images(one, id, id, {.cutmix = 1}, kKey).images.to_vector<float>() == before);
}

// Beta(0.2, 0.2) rounds to -2^-53 for this image, unless it is kept at 0.
TEST_CASE("mix_images: a share that rounds below 0 is 0", "[mix_images]") {
  const Tensor x = Tensor::from(std::vector<float>{1, 0}, {2, 1, 1, 1}), labels = numbered(2);
  const MixedImages mix = mix_images(x, labels, Tensor::from(std::vector<int32_t>{18062, 0}, {2}),
                                     {.mixup = 0.2}, {.seed = 1, .purpose = Purpose::augment});
  CHECK(mix.images.to_vector<float>()[0] == 0);
  CHECK(mix.weight.to_vector<float>()[0] == 1);
  CHECK(mix.labels.to_vector<int32_t>()[0] == 1);
}

TEST_CASE("mix_images of views and of nothing", "[mix_images]") {
  const Tensor x = pixels({8, 5, 4, 3}), ids = numbered(8), wide = x.permuted({0, 2, 1, 3});
  const auto of = [](const Tensor& images, const Tensor& id) {
    return mix_images(images, id, id, {.mixup = 1, .cutmix = 1}, kKey);
  };
  CHECK(of(wide, ids).images.to_vector<float>() == of(wide.clone(), ids).images.to_vector<float>());
  CHECK(of(x.sliced(0, 0, 0), ids.sliced(0, 0, 0)).weight.size() == 0);
  const MixedImages empty = of(x.sliced(2, 0, 0), ids);
  CHECK(empty.images.size() == 0);
  for (float weight : empty.weight.to_vector<float>()) CHECK((weight >= 0.5 && weight <= 1));
}

TEST_CASE("mix_images says what it needs", "[mix_images]") {
  const Tensor x = pixels({2, 3, 3, 1}), ids = numbered(2);
  CHECK_THROWS_WITH(mix_images(Tensor{}, ids, ids, {.mixup = 1}, kKey), Contains("got nothing"));
  CHECK_THROWS_WITH(mix_images(x.to(Dtype::f64), ids, ids, {.mixup = 1}, kKey),
                    Contains("images must be float32") && Contains("got float64"));
  CHECK_THROWS_WITH(mix_images(x, numbered(3), ids, {.mixup = 1}, kKey),
                    Contains("labels must be int32 [2], got int32 [3]"));
  CHECK_THROWS_WITH(mix_images(x, ids, Tensor{}, {.mixup = 1}, kKey),
                    Contains("ids must be int32 [2], got nothing"));
  for (const Mixing& how : {Mixing{}, {.mixup = -1}, {.mixup = 1, .cutmix = -1}, {.cutmix = NAN}})
    CHECK_THROWS_WITH(mix_images(x, ids, ids, how, kKey),
                      Contains("mixup and cutmix must be numbers of at least 0"));
}

TEST_CASE("mix_images keeps its bits from release to release", "[mix_images]") {
  const Tensor x = pixels({40, 7, 9, 3}), ids = numbered(40, 12);
  const MixedImages mix = mix_images(x, ids, ids, {.mixup = 0.2, .cutmix = 1}, kKey);
  Sha256 hash;
  for (const Tensor& t : {mix.images, mix.labels, mix.other_labels, mix.weight})
    hash.update({static_cast<const uint8_t*>(t.data()), t.nbytes()});
  CHECK(hash.hex() == "d41ae42e7cde2821a7250cdec70c09b2141743e6c833a671ad3b7fd4019b0640");
}

}  // namespace moat::tests
