// The two ways a float32 convolution runs on the CPU, each against the definition in float64 on
// integers small enough for every sum to be exact. Geometries that conv2d() would give to the other
// way are run too.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/library/context.h"
#include "kernels/vision/conv2d_library.h"
#include "kernels/vision/conv2d_patches.h"
#include "kernels/vision/conv2d_plan.h"
#include "kernels/vision/conv2d_products.h"
#include "tests/op_case.h"

using namespace moat::kernels;

namespace {

std::vector<double> small_integers(int64_t count, uint32_t stream) {
  const auto drawn = moat::tests::rand_ints({count}, -2, 3, stream);
  const int* values = drawn.data_as<int32_t>();
  return {values, values + count};
}

std::vector<float> single(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// An output that the call must write in full.
std::vector<float> poisoned(int64_t count) {
  return std::vector<float>(static_cast<size_t>(count), std::numeric_limits<float>::quiet_NaN());
}

template <class Args>
void run(ConvAlgorithm algorithm, Context& context, const Args& args) {
  const bool products = algorithm == ConvAlgorithm::products;
  const Cpu bare{&context};
  const size_t bytes = products ? products::workspace(bare, args) : library::workspace(bare, args);
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> workspace(bytes / 64 + 1);
  std::memset(workspace.data(), 0xff, workspace.size() * 64);  // NaN
  const Cpu on{&context, workspace.data(), bytes};
  products ? products::run(on, args) : library::run(on, args);
}

Conv2dGeometry geometry(int height, int width, int c_in, int c_out, int r, int s, int stride,
                        int padding) {
  return {height, width, c_in, c_out, r, s, stride, padding, Dtype::f32};
}

}  // namespace

TEST_CASE("conv2d: oneDNN's convolutions and products of patches are exact on integers", "[conv]") {
  const auto algorithm = GENERATE(ConvAlgorithm::library, ConvAlgorithm::products);
  const auto g = GENERATE(geometry(8, 8, 32, 32, 3, 3, 1, 1), geometry(2, 2, 64, 64, 3, 3, 1, 1),
                          geometry(1, 1, 16, 8, 3, 3, 1, 1),  // only one tap ever meets the image
                          geometry(8, 8, 16, 100, 3, 3, 2, 1), geometry(9, 7, 5, 6, 3, 3, 2, 1),
                          geometry(7, 5, 3, 4, 5, 1, 1, 0), geometry(6, 11, 4, 3, 2, 4, 3, 2),
                          geometry(8, 8, 16, 16, 1, 1, 1, 0),
                          geometry(9, 9, 4, 8, 2, 2, 3, 0),  // a stride that leaves pixels of x out
                          geometry(4, 4, 4, 8, 1, 1, 1, 2));  // borders that meet no pixel of x
  // oneDNN 2.6 is wrong at borders that meet no pixel; conv2d() does not ask it there.
  if (algorithm == ConvAlgorithm::library && g.padding >= std::min(g.r, g.s)) return;
  const int n = GENERATE(1, 5, 70);
  CAPTURE(static_cast<int>(algorithm), g.height, g.width, g.c_in, g.c_out, g.r, g.stride, n);
  Conv2dGeometry exact = g;
  exact.dtype = Dtype::f64;
  const auto x = small_integers(n * g.x_size(), 1), filter = small_integers(g.filter_size(), 2),
             d_y = small_integers(n * g.y_size(), 3), bias = small_integers(g.c_out, 4),
             residual = small_integers(n * g.y_size(), 5);
  const auto x32 = single(x), filter32 = single(filter), d_y32 = single(d_y), bias32 = single(bias),
             residual32 = single(residual);
  Context context;

  SECTION("forward") {
    const bool ends = GENERATE(false, true);
    const auto activation = ends ? ConvActivation::relu : ConvActivation::none;
    std::vector<double> want(d_y.size());
    REQUIRE(conv2d(Cpu{}, {x.data(), filter.data(), ends ? bias.data() : nullptr,
                           ends ? residual.data() : nullptr, want.data(), n, exact,
                           FilterForm::krsc, activation}) == Status::ok);
    auto got = poisoned(n * g.y_size());
    run(algorithm, context,
        Conv2d{x32.data(), filter32.data(), ends ? bias32.data() : nullptr,
               ends ? residual32.data() : nullptr, got.data(), n, g, FilterForm::krsc, activation});
    CHECK(got == single(want));
  }
  SECTION("input gradient") {
    const bool adds = GENERATE(false, true), masks = GENERATE(false, true);
    const auto added = small_integers(n * g.x_size(), 6);
    std::vector<double> want(x.size());
    REQUIRE(conv2d_input_grad(Cpu{}, {.d_y = d_y.data(),
                                      .filter = filter.data(),
                                      .added = nullptr,
                                      .mask = nullptr,
                                      .d_x = want.data(),
                                      .n = n,
                                      .geometry = exact,
                                      .form = FilterForm::krsc}) == Status::ok);
    for (size_t i = 0; i < want.size(); ++i) {
      if (adds) want[i] += added[i];
      if (masks && x[i] <= 0) want[i] = 0;
    }
    auto got = poisoned(n * g.x_size());
    const auto added32 = single(added);
    run(algorithm, context,
        Conv2dInputGrad{.d_y = d_y32.data(),
                        .filter = filter32.data(),
                        .added = adds ? added32.data() : nullptr,
                        .mask = masks ? x32.data() : nullptr,
                        .d_x = got.data(),
                        .n = n,
                        .geometry = g,
                        .form = FilterForm::krsc});
    CHECK(got == single(want));
    std::vector<double> got64(want.size());
    REQUIRE(conv2d_input_grad(Cpu{}, {.d_y = d_y.data(),
                                      .filter = filter.data(),
                                      .added = adds ? added.data() : nullptr,
                                      .mask = masks ? x.data() : nullptr,
                                      .d_x = got64.data(),
                                      .n = n,
                                      .geometry = exact,
                                      .form = FilterForm::krsc}) == Status::ok);
    CHECK(got64 == want);
  }
  SECTION("weight gradient") {
    std::vector<double> want(filter.size());
    REQUIRE(conv2d_weight_grad(Cpu{}, {x.data(), d_y.data(), want.data(), n, exact}) == Status::ok);
    auto got = poisoned(g.filter_size());
    run(algorithm, context, Conv2dWeightGrad{x32.data(), d_y32.data(), got.data(), n, g});
    CHECK(got == single(want));
  }
}

// A packed layout that an epilogue does not know would send it to oneDNN's reference code, right
// and hundreds of times slower: what ResNets, their experts and their routers run is never that.
TEST_CASE("conv2d: no epilogue falls to oneDNN's reference code", "[conv]") {
  const auto g =
      GENERATE(geometry(32, 32, 3, 16, 3, 3, 1, 1), geometry(32, 32, 8, 8, 3, 3, 1, 1),
               geometry(8, 8, 16, 16, 3, 3, 1, 1), geometry(8, 8, 32, 32, 3, 3, 1, 1),
               geometry(8, 8, 32, 64, 3, 3, 2, 1), geometry(4, 4, 64, 64, 3, 3, 1, 1),
               geometry(16, 16, 64, 128, 1, 1, 2, 0), geometry(16, 16, 128, 128, 3, 3, 1, 1),
               geometry(4, 4, 256, 512, 3, 3, 2, 1));
  const auto dtype = GENERATE(Dtype::f32, Dtype::bf16);
  if (!supports(Cpu{}, dtype)) return;
  Conv2dGeometry stored = g;
  stored.dtype = dtype;
  Context context;
  ConvPlan& plan = ConvPlan::of({&context}, stored);
  const float operand = 0;
  const int n = GENERATE(1, 128);
  CAPTURE(g.height, g.c_in, g.c_out, g.r, g.stride, int(dtype), n);
  const auto is_reference = [](const Planned& planned) {
    return planned.implementation().starts_with("ref");
  };
  for (const float* bias : {static_cast<const float*>(nullptr), &operand})
    for (const float* residual : {static_cast<const float*>(nullptr), &operand})
      for (const auto activation : {ConvActivation::none, ConvActivation::relu}) {
        const Conv2d call{
            nullptr, nullptr, bias, residual, nullptr, n, stored, FilterForm::packed, activation};
        CAPTURE(bias != nullptr, residual != nullptr, int(activation));
        CHECK(plan.forward(n, call).implementation() != "");
        CHECK_FALSE(is_reference(plan.forward(n, call)));
      }
  CHECK_FALSE(is_reference(plan.input_grad(n)));
  CHECK_FALSE(is_reference(plan.weight_grad(n)));
}

TEST_CASE("patches: every tap that meets the image is counted once", "[conv]") {
  const auto g = GENERATE(geometry(4, 4, 1, 1, 3, 3, 1, 1), geometry(8, 6, 1, 1, 3, 3, 2, 1),
                          geometry(6, 11, 1, 1, 2, 4, 3, 2));
  int64_t taps[2] = {0, 0};
  for (const auto use : {FilterUse::forward, FilterUse::input_grad}) {
    const Patches patches(g, use);
    int64_t pixels = 0;
    for (int64_t t = 0; t < patches.tiles(3, 10); ++t) {
      const PatchTile tile = patches.tile(3, 10, t);
      patches.for_each_pixel(tile, [&](int, int64_t, int64_t) { ++pixels; });
      taps[use == FilterUse::forward] += int64_t{tile.pixels} * patches.taps(tile);
    }
    CHECK(pixels == 3 * (use == FilterUse::forward ? g.y_size() : g.x_size()));
  }
  CHECK(taps[0] == taps[1]);
  if (g.height == 4) CHECK(taps[0] == 3 * 100);  // of 144 a 4x4 image
}
