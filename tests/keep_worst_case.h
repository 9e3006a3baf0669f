#pragma once

// An attack's bookkeeping in plain loops, and an iterate to feed it, for both targets' tests.

#include <cmath>
#include <limits>

#include "kernels/update/keep_worst.h"
#include "tests/random_values.h"

namespace moat::tests {

struct WorstState {
  std::vector<int32_t> fooled_at;
  std::vector<float> best_loss, worst;
  int32_t resisting = -1;

  static WorstState of(size_t images, size_t pixels) {
    WorstState s{.fooled_at = std::vector<int32_t>(images, -1),
                 .best_loss = std::vector<float>(images, -std::numeric_limits<float>::infinity()),
                 .worst = {}};
    for (size_t i = 0; i < images * pixels; ++i) s.worst.push_back(-1 - static_cast<float>(i));
    return s;
  }
  bool operator==(const WorstState&) const = default;
};

struct Iterate {
  size_t pixels;
  std::vector<float> points = {}, loss = {};
  std::vector<int32_t> rows = {}, predicted = {}, labels = {};  // labels: of all images
  int32_t number;

  // What is still missing are the pointers.
  kernels::KeepWorst args() const {
    kernels::KeepWorst a{};
    a.n = static_cast<int>(rows.size());
    a.images = static_cast<int>(labels.size());
    a.pixels = static_cast<int64_t>(pixels);
    a.number = number;
    return a;
  }
};

// Every other image or so, backwards, some of them wrong.
inline Iterate random_iterate(size_t images, size_t pixels, unsigned seed) {
  Iterate in{.pixels = pixels, .number = static_cast<int32_t>(seed)};
  in.labels = integers<int32_t>(images, 99, 0, 3);
  const auto chosen = integers<int32_t>(images, seed, 0, 5);
  for (size_t r = images; r-- > 0;)
    if (chosen[r] > 1) {
      in.rows.push_back(static_cast<int32_t>(r));
      in.predicted.push_back(chosen[r] == 2 ? (in.labels[r] + 1) % 3 : in.labels[r]);
    }
  for (double x : normals(in.rows.size(), seed + 1)) in.loss.push_back(static_cast<float>(x));
  for (double x : normals(in.rows.size() * pixels, seed + 2))
    in.points.push_back(static_cast<float>(x));
  return in;
}

// Asks one question after the other, image by image.
inline void look(const Iterate& in, WorstState& s) {
  s.resisting = 0;
  for (size_t i = 0; i < in.rows.size(); ++i) {
    if (in.rows[i] < 0 || in.rows[i] >= static_cast<int32_t>(in.labels.size())) continue;
    const auto r = static_cast<size_t>(in.rows[i]);
    const bool was_fooled = s.fooled_at[r] != -1, is_wrong = in.predicted[i] != in.labels[r];
    if (!was_fooled && is_wrong) s.fooled_at[r] = in.number;
    bool is_kept = !was_fooled && is_wrong;
    if (!was_fooled && !std::isnan(in.loss[i]) && in.loss[i] > s.best_loss[r]) is_kept = true;
    if (is_kept) {
      s.best_loss[r] = in.loss[i];
      for (size_t p = 0; p < in.pixels; ++p)
        s.worst[r * in.pixels + p] = in.points[i * in.pixels + p];
    }
    if (s.fooled_at[r] == -1) ++s.resisting;
  }
}

}  // namespace moat::tests
