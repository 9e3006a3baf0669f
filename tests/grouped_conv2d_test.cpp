// Convolutions over experts as kernels: what the engine, which always has offsets, does not ask
// for.

#include "kernels/experts/grouped_conv2d.h"

#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "kernels/library/context.h"
#include "tests/random_values.h"

using namespace moat::kernels;

namespace {

std::vector<double> poisoned(int64_t count) {
  return std::vector<double>(size_t(count), std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

TEST_CASE("grouped_conv2d: without offsets all images meet one filter", "[conv][grouped_conv2d]") {
  constexpr int n = 3;
  Conv2dGeometry g{5, 4, 3, 2, 3, 3, 2, 1, Dtype::f64};
  const auto x = moat::tests::normals(size_t(n * g.x_size()), 1),
             d_y = moat::tests::normals(size_t(n * g.y_size()), 2),
             filter = moat::tests::normals(size_t(g.filter_size()), 3),
             bias = moat::tests::normals(size_t(g.c_out), 4),
             added = moat::tests::normals(size_t(n * g.x_size()), 5);
  auto y = poisoned(n * g.y_size()), want_y = y;
  auto d_x = poisoned(n * g.x_size()), want_d_x = d_x;
  auto d_filter = poisoned(g.filter_size()), want_d_filter = d_filter;

  GroupedConv2d forward{.x = x.data(),
                        .filters = filter.data(),
                        .bias = bias.data(),
                        .residual = nullptr,
                        .y = y.data(),
                        .offsets = nullptr,
                        .n = n,
                        .experts = 1,
                        .geometry = g,
                        .form = FilterForm::krsc,
                        .activation = ConvActivation::relu};
  GroupedConv2dInputGrad input_grad{.d_y = d_y.data(),
                                    .filters = filter.data(),
                                    .added = added.data(),
                                    .mask = x.data(),
                                    .d_x = d_x.data(),
                                    .offsets = nullptr,
                                    .n = n,
                                    .experts = 1,
                                    .geometry = g,
                                    .form = FilterForm::krsc};
  GroupedConv2dWeightGrad weight_grad{.x = x.data(),
                                      .d_y = d_y.data(),
                                      .d_filters = d_filter.data(),
                                      .offsets = nullptr,
                                      .n = n,
                                      .experts = 1,
                                      .geometry = g};
  REQUIRE(grouped_conv2d(Cpu{}, forward) == Status::ok);
  REQUIRE(grouped_conv2d_input_grad(Cpu{}, input_grad) == Status::ok);
  REQUIRE(grouped_conv2d_weight_grad(Cpu{}, weight_grad) == Status::ok);

  REQUIRE(conv2d(Cpu{}, {x.data(), filter.data(), bias.data(), nullptr, want_y.data(), n, g,
                         FilterForm::krsc, ConvActivation::relu}) == Status::ok);
  REQUIRE(conv2d_input_grad(Cpu{}, {.d_y = d_y.data(),
                                    .filter = filter.data(),
                                    .added = added.data(),
                                    .mask = x.data(),
                                    .d_x = want_d_x.data(),
                                    .n = n,
                                    .geometry = g,
                                    .form = FilterForm::krsc}) == Status::ok);
  REQUIRE(conv2d_weight_grad(Cpu{}, {x.data(), d_y.data(), want_d_filter.data(), n, g}) ==
          Status::ok);
  CHECK(y == want_y);
  CHECK(d_x == want_d_x);
  CHECK(d_filter == want_d_filter);

  weight_grad.geometry.dtype = Dtype::f32;
  Context context;
  CHECK(grouped_conv2d_weight_grad_workspace(Cpu{&context}, weight_grad) ==
        conv2d_weight_grad_workspace(
            Cpu{&context}, {x.data(), d_y.data(), d_filter.data(), n, weight_grad.geometry}));

  forward.experts = input_grad.experts = weight_grad.experts = 2;
  CHECK(grouped_conv2d(Cpu{}, forward) == Status::bad_args);
  CHECK(grouped_conv2d_input_grad(Cpu{}, input_grad) == Status::bad_args);
  CHECK(grouped_conv2d_weight_grad(Cpu{}, weight_grad) == Status::bad_args);
}
