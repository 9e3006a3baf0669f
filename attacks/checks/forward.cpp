#include <algorithm>
#include <cmath>
#include <numeric>

#include "attacks/checks/subject.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr size_t kAlone = 16;   // images that are looked at one by one
constexpr size_t kCopies = 32;  // of each

// G1 as AutoAttack has it: five passes, logits of length 1.
double largest_difference_of_passes(const Subject& s) {
  std::vector<float> low, high;
  for (int pass = 0; pass < 5; ++pass) {
    Answers a = ask(s.model, s.all.images);
    for (size_t first = 0; first < a.logits.size(); first += static_cast<size_t>(a.classes)) {
      double squares = 0;
      for (int64_t k = 0; k < a.classes; ++k)
        squares += std::pow(a.logits[first + static_cast<size_t>(k)], 2);
      for (int64_t k = 0; k < a.classes; ++k)
        a.logits[first + static_cast<size_t>(k)] /=
            static_cast<float>(std::max(std::sqrt(squares), 1e-12));
    }
    if (pass == 0) low = high = a.logits;
    for (size_t i = 0; i < low.size(); ++i) {
      low[i] = std::min(low[i], a.logits[i]);
      high[i] = std::max(high[i], a.logits[i]);
    }
  }
  double largest = 0;
  for (size_t i = 0; i < low.size(); ++i) largest = std::max(largest, double{high[i] - low[i]});
  return largest;
}

// How far row i of `got` is from row j of `want`: relative to the logit, 1 for another class or
// route.
double distance(const Answers& got, size_t i, const Answers& want, size_t j) {
  if (got.predicted[i] != want.predicted[j]) return 1;
  if (!want.routes.empty() && got.routes[i] != want.routes[j]) return 1;
  double largest = 0;
  const auto classes = static_cast<size_t>(want.classes);
  for (size_t k = 0; k < classes; ++k) {
    const double a = got.logits[i * classes + k], b = want.logits[j * classes + k];
    largest = std::max(largest, std::abs(a - b) / std::max(1.0, std::abs(b)));
  }
  return largest;
}

Tensor images_of(const Subject& s, const std::vector<int32_t>& rows) {
  return gather_rows(s.all.images, index_of(rows, s.all.images.device()));
}

double largest_distance_between_batches(const Subject& s, const Answers& whole) {
  const auto n = static_cast<int32_t>(s.all.size());
  std::vector<std::vector<int32_t>> batches;
  for (int32_t i = 0; i < n && i < static_cast<int32_t>(kAlone); ++i) batches.push_back({i});
  for (int32_t i = 0; i + 7 <= n; i += 7) {
    batches.emplace_back(7);
    std::iota(batches.back().begin(), batches.back().end(), i);
  }
  std::vector<int32_t> backwards(static_cast<size_t>(n));
  std::iota(backwards.rbegin(), backwards.rend(), 0);
  batches.push_back(backwards);
  std::vector<int32_t> padded = backwards;
  padded.insert(padded.end(), backwards.rbegin(), backwards.rend());
  batches.push_back(padded);
  double largest = 0;
  for (const auto& rows : batches) {
    const Answers got = ask(s.model, images_of(s, rows));
    for (size_t i = 0; i < rows.size(); ++i)
      largest = std::max(largest, distance(got, i, whole, static_cast<size_t>(rows[i])));
  }
  return largest;
}

// Copies of one image compete for the same expert's capacity.
double share_changed_among_copies(const Subject& s) {
  const size_t n = std::min(kAlone, static_cast<size_t>(s.all.size()));
  int64_t changed = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto row = static_cast<int32_t>(i);
    const Answers alone = ask(s.model, images_of(s, {row})),
                  copies = ask(s.model, images_of(s, std::vector<int32_t>(kCopies, row)));
    double largest = 0;
    for (size_t c = 0; c < kCopies; ++c) largest = std::max(largest, distance(copies, c, alone, 0));
    changed += !(largest <= criterion("G2").warn);
  }
  return static_cast<double>(changed) / static_cast<double>(n);
}

double share_of_probabilities(const Answers& a) {
  const auto classes = static_cast<size_t>(a.classes);
  int64_t found = 0;
  for (size_t first = 0; first < a.logits.size(); first += classes) {
    double sum = 0;
    bool is_probability = true;
    for (size_t k = first; k < first + classes; ++k) {
      sum += a.logits[k];
      is_probability = is_probability && a.logits[k] > -1e-5 && a.logits[k] < 1 + 1e-5;
    }
    found += is_probability && std::abs(sum - 1) <= 1e-5 * static_cast<double>(classes);
  }
  return static_cast<double>(found) / static_cast<double>(a.predicted.size());
}

double share_out_of_domain(const Subject& s, const Answers& whole) {
  const Shape one{1, s.all.images.dim(1), s.all.images.dim(2), s.all.images.dim(3)};
  const auto n = static_cast<size_t>(s.all.size());
  const std::vector<float> pixels = s.all.images.to_vector<float>();
  const auto all_are = [](const std::vector<float>& values, auto&& good) {
    return std::all_of(values.begin(), values.end(), good);
  };
  const auto is_finite = [](float v) { return std::isfinite(v); };
  for (double colour : {0.0, 1.0}) {
    const Tensor image = Tensor::full(one, colour, Dtype::f32, s.all.images.device());
    if (!all_are(ask(s.model, image).logits, is_finite)) return 1;
  }
  int64_t bad = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto row = [&](const std::vector<float>& of) {
      const size_t length = of.size() / n;
      return std::vector<float>(of.begin() + static_cast<int64_t>(i * length),
                                of.begin() + static_cast<int64_t>((i + 1) * length));
    };
    bad += !all_are(row(whole.logits), is_finite) ||
           !all_are(row(pixels), [](float v) { return v >= 0 && v <= 1; });
  }
  return static_cast<double>(bad) / static_cast<double>(n);
}

}  // namespace

std::vector<Check> check_forward(const Subject& s) {
  const Answers whole = ask(s.model, s.all.images);
  std::vector<Check> checks = {judged("G1", largest_difference_of_passes(s))};
  const bool is_random = checks[0].status != CheckStatus::pass;
  const std::string reason = "the forward pass is random (G1)";
  checks.push_back(is_random ? skipped("G2", reason)
                             : judged("G2", largest_distance_between_batches(s, whole)));
  checks.push_back(judged("G3", share_of_probabilities(whole)));
  checks.push_back(judged("G4", share_out_of_domain(s, whole)));
  checks.push_back(is_random ? skipped("M10", reason)
                             : judged("M10", share_changed_among_copies(s)));
  return checks;
}

}  // namespace moat::attacks
