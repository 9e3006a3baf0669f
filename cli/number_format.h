#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace moat::cli {

// How numbers look to people; the same on the terminal and in the report. A NaN is "–".

std::string fixed(double value, int decimals);

// Three significant digits: 0.000125, 1.52, 1.2e-07.
std::string brief(double value);

// 8.4 s, 1:05 min, 2:03:04 h.
std::string duration(double seconds);

// 742, 12.3 k, 5.57 M, 1.11 G.
std::string count(double value);

// Fractions in percent: their mean, of several with ± their standard deviation; "–" of none.
std::string with_spread(std::span<const double> fractions, int64_t examples);

// A fraction in percent, one decimal, two from 10,000 examples on (below, the second one is noise).
std::string percent(double fraction, int64_t examples);

// Norm ("linf", "l2") and radius, in pixels of [0, 1]: L∞ 0.1 (25.5/255), L2 0.5.
std::string ball_text(const std::string& norm, double eps);

}  // namespace moat::cli
