#include <variant>

#include "kernels/cuda/hopper.h"
#include "kernels/experts/grouped_conv2d/sm90.h"
#include "tests/cuda/conv_case.h"

namespace moat::tests {

using namespace kernels;
using sm90::ConvTile;

namespace {

constexpr ConvTile kTiles[] = {ConvTile::narrow, ConvTile::middle, ConvTile::wide};

// How a product gets its pixels: gathered in a tile, in windows, or walked over in a tile.
struct Windows {};
using Way = std::variant<ConvTile, Windows, GroupedTileShape>;

bool fits(const ConvProduct& a, const Way& way) {
  if (std::holds_alternative<Windows>(way)) return sm90::fits_window(a);
  return std::holds_alternative<ConvTile>(way) ? sm90::fits_tiles(a) : sm90::fits_walk(a);
}
Status run(const ConvProduct& a, const Way& way) {
  if (const auto* tile = std::get_if<ConvTile>(&way)) return sm90::run_gathered(Cuda{}, a, *tile);
  if (const auto* tile = std::get_if<GroupedTileShape>(&way))
    return sm90::run_walked(Cuda{}, a, *tile);
  return sm90::run_window(Cuda{}, a);
}
std::string name(const Way& way) {
  if (const auto* tile = std::get_if<ConvTile>(&way))
    return "gathered, " + std::to_string(int(*tile));
  if (const auto* tile = std::get_if<GroupedTileShape>(&way))
    return "walked, " + std::to_string(tile->rows) + " x " + std::to_string(tile->columns);
  return "windows";
}

// Of packed bfloat16 filters of one expert.
ConvProduct packed_product(const Conv2dGeometry& g, int n = 1) {
  GroupedConv2d a{};
  a.x = reinterpret_cast<const void*>(16);
  a.n = n;
  a.experts = 1;
  a.geometry = g;
  a.geometry.dtype = Dtype::bf16;
  a.form = FilterForm::packed;
  return conv_product(a, Precision::float32);
}

struct Results {
  std::vector<Bf16> y, d_x;
};

Results products(const ConvCase& s, const ConvInputs<Bf16>& in, const Way& way) {
  const DeviceArray<Bf16> x(in.x), residual(in.residual), added(in.added), d_y(in.d_y),
      filters(in.packed(s)), y(size_t(s.n()) * s.y_size()), d_x(size_t(s.n()) * s.x_size());
  const DeviceArray<float> bias(in.bias);
  const DeviceArray<int32_t> offsets(s.offsets());
  Conv2dGeometry g = s.geometry;
  g.dtype = Dtype::bf16;
  const ConvProduct forward =
      conv_product(GroupedConv2d{.x = x.data(),
                                 .filters = filters.data(),
                                 .bias = s.with_bias ? bias.data() : nullptr,
                                 .residual = s.with_residual ? residual.data() : nullptr,
                                 .y = y.data(),
                                 .offsets = s.given(offsets),
                                 .n = s.n(),
                                 .experts = s.experts(),
                                 .geometry = g,
                                 .form = FilterForm::packed,
                                 .activation = s.activation},
                   Precision::float32);
  const ConvProduct input_grad = conv_product(
      GroupedConv2dInputGrad{.d_y = d_y.data(),
                             .filters = filters.data(),
                             .added = s.with_residual ? added.data() : nullptr,
                             .mask = s.activation == ConvActivation::relu ? x.data() : nullptr,
                             .d_x = d_x.data(),
                             .offsets = s.given(offsets),
                             .n = s.n(),
                             .experts = s.experts(),
                             .geometry = g,
                             .form = FilterForm::packed},
      Precision::float32);
  for (const ConvProduct& product : {forward, input_grad}) {
    REQUIRE(fits(product, way));
    REQUIRE(run(product, way) == Status::ok);
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return {y.host(), d_x.host()};
}

void check(const ConvCase& s, const Way& way, std::vector<double> (*values)(size_t, unsigned)) {
  const Conv2dGeometry& g = s.geometry;
  INFO(name(way) << ", images " << s.n() << " of " << g.height << " x " << g.width << ", channels "
                 << g.c_in << " to " << g.c_out << ", filter " << g.r << " x " << g.s << ", stride "
                 << g.stride << ", padding " << g.padding);
  const ConvInputs<Bf16> in(s, values);
  const Results got = products(s, in, way);
  const double error = values == integer_values ? 0 : conv_error<Bf16>(Precision::float32),
               rounding = (values == integer_values ? 1 : 1.01) * conv_rounding<Bf16>();
  require_near(got.y, forward_reference(s, in), error, rounding);
  require_near(got.d_x, input_grad_reference(s, in), error, rounding);
}

std::vector<float> weight_grad(const ConvCase& s, const ConvInputs<Bf16>& in, ConvTile tile,
                               int splits) {
  const DeviceArray<Bf16> x(in.x), d_y(in.d_y);
  const DeviceArray<int32_t> offsets(s.offsets());
  const DeviceArray<float> d_filters(s.counts.size() * s.filter_size());
  GroupedConv2dWeightGrad a{.x = x.data(),
                            .d_y = d_y.data(),
                            .d_filters = d_filters.data(),
                            .offsets = s.given(offsets),
                            .n = s.n(),
                            .experts = s.experts(),
                            .geometry = s.geometry};
  a.geometry.dtype = Dtype::bf16;
  const size_t bytes = sm90::workspace(a, splits);
  const DeviceArray<char> scratch(bytes);
  if (bytes > 0) REQUIRE(sm90::run(Cuda{}, a, tile, splits) == Status::small_workspace);
  REQUIRE(sm90::run(Cuda{.workspace = scratch.data(), .workspace_bytes = bytes}, a, tile, splits) ==
          Status::ok);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return d_filters.host();
}

void check_weight_grad(const ConvCase& s, ConvTile tile, int splits,
                       std::vector<double> (*values)(size_t, unsigned) = integer_values) {
  const Conv2dGeometry& g = s.geometry;
  INFO("weight gradient, tile " << int(tile) << ", splits " << splits << ", images " << s.n()
                                << ", channels " << g.c_in << " to " << g.c_out << ", filter "
                                << g.r << " x " << g.s << ", stride " << g.stride);
  const ConvInputs<Bf16> in(s, values);
  require_near(weight_grad(s, in, tile, splits), weight_grad_reference(s, in),
               values == integer_values ? 0 : conv_error<Bf16>(Precision::float32), 0);
}

}  // namespace

TEST_CASE("cuda: weight gradients of Hopper convolutions", "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  for (const ConvTile tile : kTiles)
    for (const int splits : {1, 3}) {
      check_weight_grad(
          {.counts = {0, 6, 1, 0, 3, 0}, .left = 1, .geometry = square(5, 8, 72, 3, 1, 1)}, tile,
          splits);
      check_weight_grad({.counts = {5, 1}, .geometry = square(7, 16, 8, 3, 2, 1)}, tile, splits);
      check_weight_grad(
          {.counts = {6}, .geometry = square(5, 8, 16, 3, 1, 1), .with_offsets = false}, tile,
          splits);
    }
  check_weight_grad({.counts = {3}, .geometry = square(8, 136, 8, 1, 1, 0)}, ConvTile::narrow, 2,
                    random_values);
  check_weight_grad({.counts = {3, 20}, .geometry = square(2, 8, 264, 3, 1, 2)}, ConvTile::wide, 2,
                    random_values);
  check_weight_grad({.counts = {0, 0}, .left = 2, .geometry = square(3, 8, 8, 3, 1, 1)},
                    ConvTile::narrow, 2);
  const ConvCase s{.counts = {5, 2}, .geometry = square(6, 8, 16, 3, 1, 1)};
  const ConvInputs<Bf16> in(s, random_values);
  const std::vector<float> once = weight_grad(s, in, ConvTile::narrow, 3);
  for (const ConvTile tile : kTiles) REQUIRE(equal_bits(once, weight_grad(s, in, tile, 3)));
}

TEST_CASE("cuda: Hopper convolutions over experts", "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  for (const ConvTile tile : kTiles) {
    check({.counts = {0, 6, 1, 0, 2, 0},
           .left = 1,
           .geometry = square(5, 8, 72, 3, 1, 1),
           .with_residual = true,
           .activation = ConvActivation::relu},
          tile, integer_values);
    check({.counts = {1, 0, 2}, .geometry = square(6, 16, 8, 3, 2, 1)}, tile, integer_values);
    check({.counts = {0, 3}, .left = 1, .geometry = square(5, 24, 16, 1, 2, 0)}, tile,
          integer_values);
    check({.counts = {0, 3},
           .left = 1,
           .geometry = square(5, 24, 16, 1, 2, 0),
           .with_residual = true,
           .activation = ConvActivation::relu},
          tile, integer_values);
    check({.counts = {3}, .geometry = square(8, 16, 8, 3, 2, 1), .with_offsets = false}, tile,
          integer_values);
    check({.counts = {2, 1},
           .geometry = {4, 7, 8, 16, 5, 2, 1, 2, Dtype::f64},
           .with_residual = true},
          tile, random_values);
  }
  check({.counts = {3}, .geometry = square(7, 72, 264, 1, 1, 0), .with_bias = false},
        ConvTile::wide, random_values);
  check({.counts = {1, 1}, .geometry = square(3, 8, 8, 2, 3, 4)}, ConvTile::narrow, random_values);
  check({.counts = std::vector<int32_t>(12, 1), .geometry = square(3, 8, 8, 1, 2, 0)},
        ConvTile::narrow, random_values);
  check({.counts = {0, 0}, .left = 1, .geometry = square(3, 8, 8, 3, 1, 1)}, ConvTile::narrow,
        random_values);
}

TEST_CASE("cuda: Hopper convolutions of more tiles and steps than rings are long",
          "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  std::vector<int32_t> counts(40, 1);
  counts[0] = counts[7] = counts[32] = counts[39] = 0;
  check({.counts = counts, .left = 1, .geometry = square(2, 24, 8, 3, 1, 1)}, ConvTile::narrow,
        integer_values);
  check({.counts = {0, 1, 1, 1, 1, 1, 1, 1}, .geometry = square(2, 80, 8, 3, 1, 1)}, ConvTile::wide,
        integer_values);
}

TEST_CASE("cuda: Hopper convolutions whose pixels TMA walks over", "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  // Ragged experts and images of no expert, images that tiles cut, every stride and padding with
  // its classes of pixels, taps that differ along the axes, more padding than taps, tiles of both
  // kinds of columns, more of them than blocks and steps than a ring has.
  const auto walk = [](const ConvCase& s, std::vector<double> (*values)(size_t, unsigned)) {
    for (const GroupedTileShape& tile : sm90::kWalkedTileShapes) check(s, tile, values);
  };
  walk({.counts = {0, 6, 1, 0, 2, 0},
        .left = 1,
        .geometry = square(5, 64, 64, 3, 1, 1),
        .with_residual = true,
        .activation = ConvActivation::relu},
       integer_values);
  walk({.counts = {1, 0, 2}, .geometry = square(6, 64, 128, 3, 2, 1)}, integer_values);
  walk({.counts = {0, 3}, .left = 1, .geometry = square(5, 64, 64, 1, 2, 0), .with_residual = true},
       integer_values);
  walk({.counts = {2, 1}, .geometry = {4, 7, 64, 64, 3, 2, 1, 2, Dtype::f64}}, integer_values);
  walk({.counts = {1, 1}, .geometry = {9, 5, 64, 64, 2, 3, 3, 4, Dtype::f64}}, integer_values);
  walk({.counts = {7},
        .geometry = square(8, 64, 64, 3, 1, 1),
        .with_residual = true,
        .with_offsets = false},
       random_values);
  walk({.counts = {8}, .geometry = square(11, 64, 64, 1, 2, 0)}, integer_values);
  walk({.counts = {0, 0}, .left = 2, .geometry = square(3, 64, 64, 3, 1, 1)}, integer_values);
  check({.counts = {1, 2}, .geometry = square(3, 128, 320, 3, 1, 1), .with_bias = false},
        GroupedTileShape{128, 256, TileSchedule::cooperative}, random_values);
  std::vector<int32_t> counts(40, 1);
  counts[0] = counts[7] = counts[39] = 0;
  check({.counts = counts, .left = 1, .geometry = square(2, 64, 64, 1, 1, 0)},
        GroupedTileShape{128, 128, TileSchedule::ping_pong}, integer_values);
}

TEST_CASE("cuda: walked and gathered pixels give the same bits", "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  for (const int stride : {1, 2}) {
    const ConvCase s{.counts = {2, 1}, .geometry = square(5, 64, 128, 3, stride, 1)};
    const ConvInputs<Bf16> in(s, random_values);
    const Results gathered = products(s, in, ConvTile::middle);
    for (const GroupedTileShape& tile : sm90::kWalkedTileShapes) {
      const Results walked = products(s, in, tile);
      REQUIRE(equal_bits(gathered.y, walked.y));
      REQUIRE(equal_bits(gathered.d_x, walked.d_x));
    }
  }
}

TEST_CASE("cuda: TMA walks over pixels where a step is one tap's", "[cuda][grouped_conv2d_sm90]") {
  const auto fits = [](const Conv2dGeometry& g) { return sm90::fits_walk(packed_product(g)); };
  CHECK(fits(square(7, 64, 8, 3, 1, 1)));
  CHECK(fits(square(56, 128, 8, 3, 2, 1)));
  CHECK(!fits(square(7, 96, 64, 3, 1, 1)));
  CHECK(!fits(square(7, 8, 64, 3, 1, 1)));
  CHECK(fits(square(32, 64, 64, 1, 8, 0)));
  CHECK(!fits(square(32, 64, 64, 1, 9, 0)));
  CHECK(fits(square(8, 64, 64, 1, 1, 127)));
  CHECK(!fits(square(8, 64, 64, 1, 1, 129)));
}

TEST_CASE("cuda: thin Hopper convolutions in windows", "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  const auto window = [](std::vector<int32_t> counts, int left, Conv2dGeometry g,
                         std::vector<double> (*values)(size_t, unsigned) = integer_values) {
    check({.counts = std::move(counts),
           .left = left,
           .geometry = g,
           .with_residual = true,
           .activation = ConvActivation::relu},
          Windows{}, values);
  };
  // Every width of a product, channels that are no multiple of 16 among them; images of fewer, of
  // more positions than a tile; a pixel; one tap and 25.
  window({0, 6, 1, 0, 3, 0}, 2, square(5, 16, 16, 3, 1, 1));
  window({2, 0, 1}, 1, square(13, 32, 24, 3, 1, 1));
  window({1, 1}, 0, square(9, 8, 64, 3, 1, 1));
  window({2}, 0, square(6, 56, 48, 3, 1, 1), random_values);
  window({3, 1}, 0, square(4, 64, 8, 1, 1, 0));
  window({3}, 1, {3, 7, 24, 40, 5, 5, 1, 2, Dtype::f64});
  window({1, 2}, 0, {1, 1, 8, 8, 3, 3, 1, 1, Dtype::f64});
  window({0, 0}, 2, square(3, 8, 8, 3, 1, 1));
  // Channels one by one: of the images, of the results, of both.
  window({3, 0, 2}, 1, square(7, 3, 16, 3, 1, 1));
  window({1, 2}, 1, square(6, 24, 5, 3, 1, 1));
  window({2}, 1, square(6, 18, 2, 3, 1, 1), random_values);
  window({4, 9, 2, 1}, 0, square(8, 16, 32, 3, 1, 1), random_values);
  window({50, 14}, 0, square(8, 8, 8, 3, 1, 1));  // several tiles for each warpgroup
  // Windows so wide that fewer warpgroups fit.
  window({5}, 0, {3, 50, 64, 16, 5, 5, 1, 2, Dtype::f64});
  check({.counts = {2, 1}, .geometry = square(6, 16, 16, 3, 1, 1), .with_bias = false}, Windows{},
        random_values);
}

TEST_CASE("cuda: windows are for thin layers", "[cuda][grouped_conv2d_sm90]") {
  const auto fits = [](const Conv2dGeometry& g, int n = 1) {
    return sm90::fits_window(packed_product(g, n));
  };
  CHECK(fits(square(32, 64, 64, 3, 1, 1)));
  CHECK(fits(square(64, 64, 64, 3, 1, 1)));
  CHECK(fits(square(190, 64, 3, 3, 1, 1)));
  CHECK(!fits(square(32, 72, 64, 3, 1, 1)));
  CHECK(!fits(square(32, 64, 72, 3, 1, 1)));
  CHECK(!fits(square(32, 64, 64, 3, 2, 1)));
  CHECK(!fits(square(32, 64, 64, 3, 1, 0)));
  // Bytes that an int does not hold.
  CHECK(!fits(square(1100, 8, 8, 1001, 1, 500)));
  CHECK(!fits({1, 1 << 27, 8, 8, 3, 3, 1, 1, Dtype::f64}));
  CHECK(!fits(square(512, 64, 64, 3, 1, 1)));       // a window is larger than shared memory
  CHECK(!fits(square(1024, 8, 8, 1, 1, 0), 1024));  // too many positions to count
}

TEST_CASE("cuda: an image of a Hopper convolution has the same bits in any batch and tile",
          "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  for (const int stride : {1, 2}) {
    const ConvCase s{.counts = {3, 9, 1}, .geometry = square(4, 16, 24, 3, stride, 1)};
    const ConvInputs<Bf16> in(s, random_values);
    const Results many = products(s, in, ConvTile::narrow);
    for (const ConvTile tile : kTiles) {
      const Results again = products(s, in, tile);
      REQUIRE(equal_bits(many.y, again.y));
      REQUIRE(equal_bits(many.d_x, again.d_x));
    }
    ConvCase alone = s;
    alone.counts = {0, 1, 0};
    ConvInputs<Bf16> one = in;
    const auto image = [](const std::vector<Bf16>& images, int i, size_t size) {
      const auto first = images.begin() + std::ptrdiff_t(size_t(i) * size);
      return std::vector<Bf16>(first, first + std::ptrdiff_t(size));
    };
    one.x = image(in.x, 7, s.x_size());
    one.d_y = image(in.d_y, 7, s.y_size());
    one.residual = image(in.residual, 7, s.y_size());
    const auto require_same = [&](const Results& all, const Results& few) {
      REQUIRE(equal_bits(image(all.y, 7, s.y_size()), few.y));
      REQUIRE(equal_bits(image(all.d_x, 7, s.x_size()), few.d_x));
    };
    require_same(many, products(alone, one, ConvTile::narrow));
    if (stride == 1) require_same(products(s, in, Windows{}), products(alone, one, Windows{}));
  }
}

TEST_CASE("cuda: NaN stays with its expert in a Hopper convolution",
          "[cuda][grouped_conv2d_sm90]") {
  if (!on_hopper()) return;
  const ConvCase s{.counts = {1, 1, 1}, .geometry = square(3, 64, 64, 3, 1, 1)};
  ConvInputs<Bf16> in(s, random_values);
  for (size_t i = 0; i < s.filter_size(); ++i) in.filters[s.filter_size() + i] = NAN;
  for (const Way& way : {Way(ConvTile::middle), Way(Windows{}), Way(sm90::kWalkedTileShapes[1])}) {
    const Results got = products(s, in, way);
    const std::vector<double> y = widened(got.y), d_x = widened(got.d_x);
    for (size_t i = 0; i < y.size(); ++i) REQUIRE(std::isnan(y[i]) == (i / s.y_size() == 1));
    for (size_t i = 0; i < d_x.size(); ++i) REQUIRE(std::isnan(d_x[i]) == (i / s.x_size() == 1));
  }
}

TEST_CASE("cuda: Hopper convolutions refuse what is not in whole chunks",
          "[cuda][grouped_conv2d_sm90]") {
  const auto fits = [](auto&& change) {
    GroupedConv2d a{};
    a.n = a.experts = 1;
    a.geometry = square(4, 8, 16, 3, 1, 1);
    a.geometry.dtype = Dtype::bf16;
    a.form = FilterForm::packed;
    change(a);
    return sm90::fits_tiles(conv_product(a, Precision::float32));
  };
  CHECK(fits([](auto&) {}));
  CHECK(!fits([](auto& a) { a.geometry.c_in = 12; }));
  CHECK(!fits([](auto& a) { a.geometry.c_out = 12; }));
  CHECK(!fits([](auto& a) { a.geometry.dtype = Dtype::f32; }));
  CHECK(!fits([](auto& a) { a.geometry.r = 16; }));
  CHECK(!fits([](auto& a) { a.x = reinterpret_cast<const void*>(8); }));
  CHECK(!fits([](auto& a) { a.bias = reinterpret_cast<const void*>(4); }));
  CHECK(!fits([](auto& a) { a.residual = reinterpret_cast<const void*>(8); }));
}

}  // namespace moat::tests
