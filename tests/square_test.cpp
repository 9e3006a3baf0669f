#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "attacks/square_bump.h"
#include "engine/ops/shape.h"
#include "engine/ops/square_attack.h"
#include "tests/linear_victims.h"

namespace moat::tests {

using namespace engine;
using namespace attacks;
using attacks::Gate;
using namespace linear_victims;

TEST_CASE("square: the schedule on 32x32", "[square]") {
  const std::pair<int, int> sides[] = {{10, 29},  {50, 20},  {200, 14}, {500, 10},
                                       {1000, 7}, {2000, 5}, {4000, 4}, {6000, 3}};
  int first = 0;
  for (const auto& [last, side] : sides) {
    for (int query : {first, last})
      CHECK(square_side(Norm::linf, square_share(0.8, query), 32, 32) == side);
    first = last + 1;
  }
  CHECK(square_share(0.8, 10) == 0.8);
  CHECK(square_share(0.8, 11) == 0.4);
  CHECK(square_share(0.8, 6001) == 0.8 / 256);
  CHECK(square_share(0.8, 8000) == 0.8 / 256);
  CHECK(square_share(0.8, 8001) == 0.8 / 512);
  // Odd, at least 3, and within the image.
  const auto l2_side = [](int query, int height, int width) {
    return square_side(Norm::l2, square_share(0.8, query), height, width);
  };
  int at = 0;
  for (int query : {0, 11, 51, 201, 501, 1001, 2001, 4001})
    CHECK(l2_side(query, 32, 32) == std::vector{29, 21, 15, 11, 7, 5, 5, 3}[size_t(at++)]);
  CHECK(l2_side(0, 4, 4) == 4);
  CHECK(l2_side(0, 2, 9) == 2);
  CHECK(l2_side(4001, 1, 1) == 1);
  CHECK(square_side(Norm::linf, 0.8, 2, 100) == 2);
  CHECK(square_side(Norm::linf, 0.00625, 4, 4) == 1);
}

// The stack of squares, built square by square.
TEST_CASE("square: the bump of L2", "[square]") {
  for (int side : {1, 2, 3, 4, 5, 6, 7, 11, 29}) {
    INFO("side " << side);
    const auto stack = [&](int rows, int columns) {
      const std::vector<double> row(static_cast<size_t>(columns));
      std::vector<std::vector<double>> grid(static_cast<size_t>(rows), row);
      for (int c = 0; c <= std::max(rows / 2, columns / 2); ++c)
        for (int r = std::max(rows / 2 - c, 0); r <= std::min(rows / 2 + c, rows - 1); ++r)
          for (int s = std::max(columns / 2 - c, 0); s <= std::min(columns / 2 + c, columns - 1);
               ++s)
            grid[size_t(r)][size_t(s)] += 1.0 / ((c + 1) * (c + 1));
      double squares = 0;
      for (const auto& line : grid)
        for (double v : line) squares += v * v;
      for (auto& line : grid)
        for (double& v : line) v /= std::sqrt(squares);
      return grid;
    };
    const std::vector<double> bump = square_bump(side);
    REQUIRE(bump.size() == size_t(side * side));
    const int upper = side / 2;
    const auto above = stack(upper, side), below = stack(side - upper, side);
    const double length = upper > 0 ? std::sqrt(2.0) : 1;  // of two pyramids of length 1
    for (int r = 0; r < side; ++r)
      for (int s = 0; s < side; ++s)
        CHECK(bump[size_t(r * side + s)] ==
              Approx(
                  (r < upper ? above[size_t(r)][size_t(s)] : -below[size_t(r - upper)][size_t(s)]) /
                  length));
  }
}

// On a linear two-class model the worst point of ball ∩ box has a closed form.
TEST_CASE("square: the optimum of a linear model (L-infinity)", "[square]") {
  const Linear net({6, 4, 4, 3}, 2, 40);  // class 0 stays the prediction: no early end
  const Victims v = net.victims();
  Tensor optimum = v.images.clone();
  for (int64_t i = 0; i < optimum.size(); ++i) {
    float& x = optimum.data_as<float>()[i];
    x = std::clamp(net.slope(i % 48) > 0 ? x + 0.05f : x - 0.05f, 0.f, 1.f);
  }
  const AttackResult r = square_attack(net.model(), v, {.threat = {.eps = 0.05}});
  const auto best = margins(net, optimum, v), found = margins(net, r.adversarial, v);
  for (size_t i = 0; i < best.size(); ++i) CHECK(found[i] == Approx(best[i]).margin(1e-5));
}

// In the middle of the box, against a slope that is smooth as its bumps are. Each query mixes a
// bump into a window of at least 3x3 pixels in equal parts, so that the search stalls before the
// optimum.
TEST_CASE("square: most of the optimum of a linear model (L2)", "[square]") {
  const Linear net({6, 12, 12, 1}, 2, 40);
  double squares = 0;
  for (int64_t j = 0; j < 144; ++j) {
    float* w = net.weight.data_as<float>();
    w[j] = 0;
    w[144 + j] =
        static_cast<float>(std::sin(0.3 + 0.4 * double(j % 12)) * std::cos(0.2 * double(j / 12)));
    squares += net.slope(j) * net.slope(j);
  }
  const Victims v = net.victims(0.3, 0.7);
  const double gain = 0.2 * std::sqrt(squares);
  const auto after = [&](int queries) {
    const Square a{.threat = {Norm::l2, 0.2}, .queries = queries};
    return margins(net, square_attack(net.model(), v, a).adversarial, v);
  };
  const auto before = margins(net, v.images, v), start = after(0), found = after(5000);
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(start[i] - before[i] < 0.35 * gain);
    CHECK(found[i] - before[i] > 0.7 * gain);
    CHECK(found[i] - before[i] < gain * (1 + 1e-4));
  }
}

TEST_CASE("square, noise: every point lies in ball and box", "[square][noise]") {
  for (const Shape& shape : {Shape{9, 6, 6, 3}, {5, 3, 8, 1}, {5, 7, 2, 2}, {3, 1, 5, 3}}) {
    const Linear net(shape, 3, 0.5);
    const Victims v = net.victims();
    for (Norm norm : {Norm::linf, Norm::l2})
      for (double eps : {0.0, 1e-9, 1e-7, 8.0 / 255, 0.5, 1.0}) {
        INFO(shape.str() << " " << name_of(norm) << " eps " << eps);
        const ThreatModel threat{norm, eps};
        const AttackResult searched =
            square_attack(net.model(), v, {.threat = threat, .queries = 30, .restarts = 2});
        CHECK(inside(searched.adversarial, v.images, threat));
        const AttackResult drawn =
            noise(net.model(), v, {.threat = threat, .uniform_draws = 3, .extreme_draws = 3});
        CHECK(inside(drawn.adversarial, v.images, threat));
        if (eps > 0) continue;
        CHECK(values(searched.adversarial) == values(v.images));
        CHECK(values(drawn.adversarial) == values(v.images));
      }
  }
}

TEST_CASE("square, noise: an image's result is its own", "[square][noise]") {
  const Norm norm = GENERATE(Norm::linf, Norm::l2);
  const Linear net({256, 5, 6, 3}, 4, 0);
  const Victims v = net.victims();
  const double eps = norm == Norm::linf ? 0.01 : 0.06;
  const Attack square = Square{.threat = {norm, eps}, .queries = 80, .restarts = 2, .seed = 4};
  const Attack random =
      Noise{.threat = {norm, 4 * eps}, .uniform_draws = 20, .extreme_draws = 20, .seed = 4};
  for (const Attack& attack : {square, random}) {
    const AttackResult whole = run(net.model(), v, attack);
    CHECK(count_fooled(whole) > 10);  // neither won nor lost
    CHECK(count_fooled(whole) < 246);
    const auto check = [&](const std::vector<int32_t>& rows) {
      const AttackResult part = run(net.model(), v.rows(rows), attack);
      std::vector<int> fooled_at;
      for (int32_t row : rows) fooled_at.push_back(whole.fooled_at[size_t(row)]);
      CHECK(part.fooled_at == fooled_at);
      CHECK(values(part.adversarial) == values(gather_rows(whole.adversarial, index_of(rows))));
    };
    std::vector<int32_t> backwards;
    for (int32_t i = 255; i >= 0; --i) backwards.push_back(i);
    check(backwards);
    for (int32_t i : {0, 100, 255}) check({i});
    for (int32_t i = 0; i + 7 <= 256; i += 83) check({i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6});
  }
}

TEST_CASE("square: queries are counted", "[square]") {
  const Norm norm = GENERATE(Norm::linf, Norm::l2);
  const Linear safe({5, 4, 4, 3}, 2, 40);
  const Victims v = safe.victims();
  const AttackResult none =
      square_attack(safe.model(), v, {.threat = {norm, 0.01}, .queries = 17, .restarts = 3});
  CHECK(none.forwards == 5 * 18 * 3);
  CHECK(none.backwards == 0);
  CHECK(safe.seen == none.forwards);
  CHECK(none.fooled_at == std::vector<int>(5, -1));

  // Misclassified where they are: the start is the only query, and restarts have no victims.
  Victims wrong = v;
  wrong.labels = Tensor::full({5}, 1, Dtype::i32);
  const AttackResult all =
      square_attack(safe.model(), wrong, {.threat = {norm, 0.01}, .restarts = 3});
  CHECK(all.forwards == 5);
  CHECK(all.fooled_at == std::vector<int>(5, 0));
  const AttackResult nobody = square_attack(safe.model(), v.rows({}), {.threat = {norm, 0.01}});
  CHECK(nobody.forwards == 0);
  CHECK(nobody.fooled_at.empty());

  // Some are fooled: what is counted is what the model sees, and fooled images leave.
  const Linear halfway({64, 4, 4, 3}, 4, 0);
  const AttackResult some = square_attack(
      halfway.model(), halfway.victims(),
      {.threat = {norm, norm == Norm::linf ? 0.01 : 0.06}, .queries = 99, .restarts = 2});
  CHECK(some.forwards == halfway.seen);
  CHECK(some.forwards < 64 * 200);
  CHECK(some.forwards >= (64 - count_fooled(some)) * 200);
}

// Equal logits are margin 0; the lowest index is the prediction.
TEST_CASE("square: the prediction decides, not the margin", "[square]") {
  const Model equal{.forward = [](const Tensor& x, Gate) {
    return Outputs{Tensor::zeros({x.dim(0), 3})};
  }};
  const Linear shape({2, 4, 4, 1}, 2, 0);
  Victims v = shape.victims();
  v.labels = Tensor::from(std::vector<int32_t>{0, 1}, {2});
  CHECK(square_attack(equal, v, {.queries = 4}).fooled_at == std::vector<int>{-1, 0});
  CHECK(noise(equal, v, {}).fooled_at == std::vector<int>{-1, 0});
}

TEST_CASE("square: restarts search anew and are merged", "[square]") {
  const Linear net({64, 4, 5, 3}, 4, 0);
  const Victims v = net.victims();
  Square a{.threat = {.eps = 0.01}, .queries = 5, .restarts = 1};
  const AttackResult one = square_attack(net.model(), v, a);
  a.restarts = 4;
  const AttackResult four = square_attack(net.model(), v, a);
  const auto first = margins(net, one.adversarial, v), best = margins(net, four.adversarial, v);
  int better = 0, later = 0;
  for (size_t i = 0; i < 64; ++i) {
    if (one.fooled_at[i] >= 0) {
      CHECK(four.fooled_at[i] == one.fooled_at[i]);
      CHECK(best[i] == first[i]);
      continue;
    }
    CHECK(best[i] >= first[i]);
    better += best[i] > first[i];
    later += four.fooled_at[i] >= 6;
    CHECK(four.fooled_at[i] < 24);
    CHECK((four.fooled_at[i] < 0 || best[i] >= 0));
  }
  CHECK(better > 20);
  CHECK(later > 0);
}

TEST_CASE("square, noise: the seed decides", "[square][noise]") {
  const Linear net({4, 5, 5, 3}, 2, 40);
  const Victims v = net.victims();
  for (Norm norm : {Norm::linf, Norm::l2}) {
    const auto searched = [&](uint64_t seed) {
      return values(
          square_attack(net.model(), v, {.threat = {norm, 0.1}, .queries = 9, .seed = seed})
              .adversarial);
    };
    const auto drawn = [&](uint64_t seed) {
      return values(noise(net.model(), v, {.threat = {norm, 0.1}, .seed = seed}).adversarial);
    };
    CHECK(searched(1) == searched(1));
    CHECK(searched(1) != searched(2));
    CHECK(drawn(1) == drawn(1));
    CHECK(drawn(1) != drawn(2));
  }
}

TEST_CASE("square: the ops say what they need", "[square]") {
  const Tensor x = Tensor::full({2, 4, 5, 3}, 0.5), rows = row_numbers(2), ids = rows;
  const RandomKey key;
  const auto bump = [](int side) { return Tensor::full({side, side}, 1.0 / side); };
  CHECK(square_linf(x, x, x, rows, ids, 4, key).shape() == x.shape());
  CHECK(square_l2(x, x, bump(3), rows.sliced(0, 1, 2), ids.sliced(0, 1, 2), 0.1, key).dim(0) == 1);
  CHECK_THROWS_WITH(square_linf(x.reshaped({2, 60}), x, x, rows, ids, 4, key),
                    Catch::Contains("square_linf: best must be float32 [images, height"));
  CHECK_THROWS_WITH(square_linf(x, x, {}, rows, ids, 4, key),
                    Catch::Contains("square_linf: high must be float32 [2, 4, 5, 3], got nothing"));
  CHECK_THROWS_WITH(square_linf(x, x.reshaped({2, 5, 4, 3}), x, rows, ids, 4, key),
                    Catch::Contains("square_linf: low must be float32 [2, 4, 5, 3]"));
  CHECK_THROWS_WITH(square_linf(x, x, x, rows, row_numbers(3), 4, key),
                    Catch::Contains("square_linf: ids must be int32 [2], got int32 [3]"));
  CHECK_THROWS_WITH(square_linf(x, x, x, x, ids, 4, key), Catch::Contains("rows must be int32"));
  CHECK_THROWS_WITH(square_linf(x, x, x, rows, ids, 5, key),
                    Catch::Contains("must fit into images of 4x5 pixels, got a side of 5"));
  CHECK_THROWS_WITH(square_l2(x, x, bump(5), rows, ids, 0.1, key),
                    Catch::Contains("square_l2: the square must fit"));
  CHECK_THROWS_WITH(square_l2(x, x, Tensor::zeros({2, 3}), rows, ids, 0.1, key),
                    Catch::Contains("square_l2: bump must be float32 [2, 2]"));
  CHECK_THROWS_WITH(square_l2(x, x, bump(3), rows, ids, -1, key), Catch::Contains("eps"));
  const Tensor outside = Tensor::from(std::vector<int32_t>{0, 2}, {2});
  CHECK_THROWS(square_linf(x, x, x, outside, ids, 2, key));
}

TEST_CASE("square, noise: what cannot be is refused, and every constant is printed",
          "[square][noise]") {
  const Linear net({1, 4, 4, 1}, 2, 0);
  const Victims v = net.victims();
  CHECK_THROWS_WITH(square_attack(net.model(), v, {.queries = -1}), Catch::Contains("queries"));
  CHECK_THROWS_WITH(square_attack(net.model(), v, {.share = 0}), Catch::Contains("share"));
  CHECK_THROWS_WITH(square_attack(net.model(), v, {.restarts = 0}), Catch::Contains("restarts"));
  CHECK_THROWS_WITH(noise(net.model(), v, {.uniform_draws = -1}), Catch::Contains("draws"));
  Victims flat = v;
  flat.images = v.images.reshaped({1, 16});
  CHECK_THROWS_WITH(square_attack(net.model(), flat, {}), Catch::Contains("[1, 16]"));
  const auto printed = constants_of(Attack(Square{.threat = {Norm::l2, 0.5}, .seed = 7}));
  CHECK(printed.dump() ==
        R"({"attack":"square","norm":"l2","eps":0.5,)"
        R"("queries":5000,"share":0.8,"share halved after":[10,50,200,500,1000,2000,4000,6000,)"
        R"(8000],"restarts":1,"loss":"margin","start":"grid of bumps","draws":"per image",)"
        R"("keep":"first misclassified point, else largest margin","seed":7})");
  CHECK(constants_of(Noise{}).dump() ==
        R"({"uniform draws":50,"extreme draws":50,"loss":"margin",)"
        R"("keep":"first misclassified point, else largest margin","seed":0})");
}

}  // namespace moat::tests
