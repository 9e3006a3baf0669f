#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moat::train {

// part / whole; 0 of nothing.
double fraction(int64_t part, int64_t whole);

struct Interval {
  double low, high;
};

// Wilson score interval of a proportion, successes of trials (Wilson 1927), by default at 95 %.
// No trials: [0, 1], nothing is known.
Interval wilson_interval(int64_t successes, int64_t trials, double z = 1.959963984540054);

// The exact two-sided sign test (McNemar's for pairs that differ): how likely it is that one of two
// equal sides wins at least as many of `first + second` decisions as the luckier one did here. 1 of
// none.
double sign_test(int64_t first, int64_t second);

struct MeanDeviation {
  double mean, deviation;  // sample standard deviation (n - 1); 0 of one value
};

// Of no values: mean and deviation are NaN.
MeanDeviation mean_deviation(std::span<const double> values);

// The middle value, or the mean of the two in the middle; 0 of none.
double median(std::vector<double> values);

// Shannon entropy of counts divided by its largest value log(size): 1 uniform, 0 all in one place.
// One place or no counts: 0.
double normalized_entropy(std::span<const int64_t> counts);

}  // namespace moat::train
