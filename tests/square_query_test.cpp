#include <catch2/catch.hpp>
#include <map>

#include "tests/square_case.h"

namespace moat::tests {

using namespace kernels;

namespace {

SquareLinf linf_args(const SquareScene& s, std::vector<float>& y) {
  y.assign(s.points(), NAN);
  auto a = s.args<SquareLinf>();
  a.best = s.best.data();
  a.low = s.low.data();
  a.high = s.high.data();
  a.rows = s.rows.data();
  a.ids = s.ids.data();
  a.y = y.data();
  return a;
}

SquareL2 l2_args(const SquareScene& s, std::vector<float>& y) {
  y.assign(s.points(), NAN);
  auto a = s.args<SquareL2>();
  a.best = s.best.data();
  a.center = s.center.data();
  a.bump = s.bump.data();
  a.rows = s.rows.data();
  a.ids = s.ids.data();
  a.y = y.data();
  return a;
}

}  // namespace

TEST_CASE("square_linf equals plain loops", "[square][square_linf]") {
  for (const SquareScene& s : square_scenes()) {
    INFO(s.height << "x" << s.width << "x" << s.channels << ", side " << s.side);
    std::vector<float> y;
    REQUIRE(square_linf(Cpu{}, linf_args(s, y)) == Status::ok);
    REQUIRE(y == linf_reference(s));
  }
}

TEST_CASE("square_l2 equals plain loops", "[square][square_l2]") {
  for (const SquareScene& s : square_scenes()) {
    INFO(s.height << "x" << s.width << "x" << s.channels << ", side " << s.side);
    std::vector<float> y;
    REQUIRE(square_l2(Cpu{}, l2_args(s, y)) == Status::ok);
    const std::vector<double> want = l2_reference(s);
    for (size_t i = 0; i < y.size(); ++i)  // a float32 of at most 1 + eps, and a delta's rounding
      REQUIRE(double(y[i]) == Approx(want[i]).margin(2e-7));
  }
}

// Every place that fits is drawn, the last row and column of places too, about equally often.
TEST_CASE("square: windows and signs are uniform", "[square]") {
  const int side = 3, height = 5, width = 7;
  std::map<std::pair<int, int>, int> first, second;
  int plus = 0, transposed = 0;
  const int draws = 15 * 400;
  for (int32_t id = 0; id < draws; ++id) {
    const SquareKey key{.seed = 5, .iteration = 1, .purpose = 8, .stream = 0};
    const SquareDraw d = square_draw(key, id, side, height, width);
    ++first[{d.first.top, d.first.left}];
    ++second[{d.second.top, d.second.left}];
    transposed += d.transposed;
    plus += SquareSigns(key, id).is_plus(2);
  }
  const double deviation = std::sqrt(400 * (1 - 1 / 15.0));
  for (const auto& places : {first, second}) {
    CHECK(places.size() == size_t((height - side + 1) * (width - side + 1)));
    for (const auto& [place, count] : places) CHECK(std::abs(count - 400) < 4 * deviation);
  }
  CHECK(std::abs(plus - draws / 2) < 4 * std::sqrt(draws / 4));
  CHECK(std::abs(transposed - draws / 2) < 4 * std::sqrt(draws / 4));
}

TEST_CASE("square_linf and square_l2 refuse what is outside their contract", "[square]") {
  const auto refused = [](auto&& change) {
    SquareScene s = square_scene(3, 4, 5, 3, 2, {0, 2});
    std::vector<float> y;
    SquareLinf linf = linf_args(s, y);
    change(linf, s);
    CHECK(square_linf(Cpu{}, linf) == Status::bad_args);
    SquareL2 l2 = l2_args(s, y);
    change(l2, s);
    CHECK(square_l2(Cpu{}, l2) == Status::bad_args);
    for (float value : y) REQUIRE(std::isnan(value));
  };
  refused([](auto& a, auto&) { a.n = -1; });
  refused([](auto& a, auto&) { a.images = 0; });
  refused([](auto& a, auto&) { a.height = -1; });
  refused([](auto& a, auto&) { a.width = 1; });
  refused([](auto& a, auto&) { a.channels = -1; });
  refused([](auto& a, auto&) { a.side = 5; });
  refused([](auto& a, auto&) { a.side = -1; });
  refused([](auto& a, auto&) { a.height = a.width = 1 << 16; });
  refused([](auto& a, auto&) { a.key.purpose = 1 << 8; });
  refused([](auto& a, auto&) { a.key.stream = 1 << 24; });
  for (int32_t row : {-1, 3}) refused([&](auto&, SquareScene& s) { s.rows[1] = row; });
  std::vector<float> y;
  for (double eps : {-1.0, double(NAN), double(INFINITY)}) {
    SquareL2 a = l2_args(square_scene(3, 4, 5, 3, 2, {}), y);
    a.eps = eps;
    CHECK(square_l2(Cpu{}, a) == Status::bad_args);
  }
}

}  // namespace moat::tests
