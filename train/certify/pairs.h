#pragma once

#include <span>
#include <vector>

namespace moat::train {

// A number for every pair of classes. Unless said otherwise at(a, b) is what F_a - F_b of some
// outputs is at least, at a point or on a set of them; F_a - F_b is then at most -at(b, a).
struct Pairs {
  int classes = 0;
  std::vector<double> values = {};  // [classes, classes]

  explicit Pairs(int n) : classes(n), values(static_cast<size_t>(n) * static_cast<size_t>(n)) {}
  double& at(int a, int b) { return values[index(a, b)]; }
  double at(int a, int b) const { return values[index(a, b)]; }
  // min over b != a of F_a - F_b; -inf for a NaN. The class wins everywhere when it is above 0.
  double least_lead(int a) const;

 private:
  size_t index(int a, int b) const {
    return static_cast<size_t>(a) * static_cast<size_t>(classes) + static_cast<size_t>(b);
  }
};

// Between what an expert's weight in a mixture lies.
struct Share {
  double low = 0, high = 1;
};

// Of the softmax over the `active` largest scores, renormalised (one active expert: the hard gate),
// when s_i - s_j >= scores.at(i, j). An expert that can be among them has high > 0.
std::vector<Share> gate_shares(const Pairs& scores, int active);

// Σ_i a_i (f_i,a - f_i,b) for weights that sum to 1 within their shares: the fractional knapsack,
// what can be goes to the expert of the least difference. experts[i] is not looked at where
// shares[i].high is 0.
Pairs mixed(std::span<const Pairs> experts, std::span<const Share> shares);

// Of (1 - alpha) F_S + alpha F_R.
Pairs averaged(const Pairs& standard, const Pairs& robust, double alpha);

// Of the softmax of such logits.
Pairs of_probabilities(const Pairs& logits);

}  // namespace moat::train
