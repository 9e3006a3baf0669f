#pragma once

// Looks of Auto-PGD with what it must remember of them, by plain loops.

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/update/apgd_progress.h"
#include "tests/random_values.h"

namespace moat::tests {

struct ProgressState {
  size_t images, pixels;
  std::vector<float> points, gradient, best_points, best_gradient;
  std::vector<float> best_loss, last_loss, checked_loss;
  std::vector<int32_t> rises, halved;
  std::vector<double> step;

  static ProgressState of(size_t images, size_t pixels) {
    const std::vector<float> values(images * pixels, -1), losses(images, -0.25f);
    return {images,
            pixels,
            values,
            values,
            values,
            values,
            losses,
            losses,
            losses,
            std::vector<int32_t>(images, 0),
            std::vector<int32_t>(images, 1),
            std::vector<double>(images, 0.5)};
  }

  kernels::ApgdProgress args(int window) const {
    kernels::ApgdProgress a{};
    a.n = static_cast<int>(images);
    a.pixels = static_cast<int64_t>(pixels);
    a.window = window;
    a.rho = 0.75;
    return a;
  }

  // NaN losses stay NaN: everything else is compared.
  bool same_as(const ProgressState& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      for (size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
      return a.size() == b.size();
    };
    return points == other.points && gradient == other.gradient &&
           best_points == other.best_points && best_gradient == other.best_gradient &&
           same(best_loss, other.best_loss) && same(last_loss, other.last_loss) &&
           same(checked_loss, other.checked_loss) && rises == other.rises &&
           halved == other.halved && step == other.step;
  }
};

// The points, gradients and losses that look number `number` finds; losses on a coarse grid make
// ties.
struct Look {
  std::vector<float> points, gradient, loss;
};
inline Look random_look(const ProgressState& s, unsigned number) {
  const auto floats = [](const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
  };
  Look look{floats(normals(s.images * s.pixels, 10 * number + 1)),
            floats(normals(s.images * s.pixels, 10 * number + 2)),
            floats(normals(s.images, 10 * number + 3))};
  for (size_t i = 0; i < s.images; ++i) {
    look.loss[i] = std::round(2 * look.loss[i]) / 4 + (i % 3 == 0 ? 0.25f * float(number) : 0);
    if (i % 7 == 6 && number % 2 == 1) look.loss[i] = std::numeric_limits<float>::quiet_NaN();
  }
  return look;
}

inline void remember(const Look& look, int window, ProgressState& s) {
  s.points = look.points;
  s.gradient = look.gradient;
  for (size_t i = 0; i < s.images; ++i) {
    const auto copy = [&](const std::vector<float>& from, std::vector<float>& to) {
      for (size_t p = i * s.pixels; p < (i + 1) * s.pixels; ++p) to[p] = from[p];
    };
    if (look.loss[i] > s.last_loss[i]) ++s.rises[i];
    s.last_loss[i] = look.loss[i];
    const bool first_number = std::isnan(s.best_loss[i]) && !std::isnan(look.loss[i]);
    if (look.loss[i] > s.best_loss[i] || first_number) {
      s.best_loss[i] = look.loss[i];
      copy(s.points, s.best_points);
      copy(s.gradient, s.best_gradient);
    }
    if (window == 0) continue;
    const bool few_rises = double(s.rises[i]) <= 0.75 * window;
    const bool no_better = s.halved[i] == 0 && s.best_loss[i] <= s.checked_loss[i];
    s.halved[i] = few_rises || no_better;
    if (s.halved[i]) {
      s.step[i] /= 2;
      copy(s.best_points, s.points);
      copy(s.best_gradient, s.gradient);
    }
    s.checked_loss[i] = s.best_loss[i];
    s.rises[i] = 0;
  }
}

// Several looks with checkpoints between them, by `update` and by plain loops.
template <class Update>
void check_progress(size_t images, size_t pixels, Update update) {
  INFO(images << " images of " << pixels << " pixels");
  ProgressState want = ProgressState::of(images, pixels), got = want;
  for (unsigned number = 0; number < 8; ++number) {
    INFO("look " << number);
    const int window = number == 2 ? 2 : number >= 4 && number % 2 == 0 ? 1 : 0;
    const Look look = random_look(want, number);
    remember(look, window, want);
    got = update(look, window, got);
    REQUIRE(got.same_as(want));
  }
}

}  // namespace moat::tests
