#include "cli/number_format.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "engine/error.h"
#include "train/numbers.h"
#include "train/statistics.h"

namespace moat::cli {

namespace {

constexpr const char* kMissing = "–";

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 400> buffer{};  // %.*f of the largest double has 309 digits
  std::snprintf(buffer.data(), buffer.size(), format, values...);
  return buffer.data();
}

}  // namespace

std::string fixed(double value, int decimals) {
  if (std::isnan(value)) return kMissing;
  return formatted("%.*f", decimals, value == 0 ? 0.0 : value);  // never "-0"
}

std::string brief(double value) {
  if (std::isnan(value)) return kMissing;
  return formatted("%.3g", value == 0 ? 0.0 : value);
}

std::string duration(double seconds) {
  if (std::isnan(seconds)) return kMissing;
  if (seconds < 59.95) return fixed(seconds, seconds < 9.995 ? 1 : 0) + " s";
  if (seconds > 1e9) return "> 30 years";
  const int64_t whole = std::llround(seconds);
  const int s = static_cast<int>(whole % 60), m = static_cast<int>(whole / 60 % 60);
  const int64_t h = whole / 3600;
  if (h == 0) return formatted("%d:%02d min", m, s);
  return formatted("%lld:%02d:%02d h", static_cast<long long>(h), m, s);
}

std::string count(double value) {
  if (std::isnan(value)) return kMissing;
  const double size = std::fabs(value);
  if (size < 999.5) return fixed(value, size == std::floor(size) || size >= 100 ? 0 : 1);
  constexpr std::array<const char*, 5> kUnits{"k", "M", "G", "T", "P"};
  double scaled = value / 1e3;
  size_t unit = 0;
  for (; unit + 1 < kUnits.size() && std::fabs(scaled) >= 999.5; ++unit) scaled /= 1e3;
  const double s = std::fabs(scaled);
  return fixed(scaled, s < 9.995 ? 2 : s < 99.95 ? 1 : 0) + " " + kUnits[unit];
}

std::string percent(double fraction, int64_t examples) {
  return fixed(100 * fraction, examples >= 10000 ? 2 : 1);
}

std::string with_spread(std::span<const double> fractions, int64_t examples) {
  const train::MeanDeviation m = train::mean_deviation(fractions);
  const std::string mean = percent(m.mean, examples);
  return fractions.size() < 2 ? mean : mean + " ± " + percent(m.deviation, examples);
}

std::string ball_text(const std::string& norm, double eps) {
  return norm == "linf" ? "L∞ " + train::print_eps(eps)
                        : (norm == "l2" ? "L2" : norm) + " " + brief(eps);
}

}  // namespace moat::cli
