#include "train/numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <sstream>
#include <string_view>

#include "engine/error.h"

namespace moat::train {

using engine::text;
using engine::UsageError;

namespace {

std::optional<double> plain_number(std::string_view digits) {
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string short_number(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.3g", value);
  return digits;
}

}  // namespace

double parse_number(const std::string& given, const std::string& what) {
  const std::string_view all = given;
  const size_t slash = all.find('/');
  const auto top = plain_number(all.substr(0, slash));
  const auto bottom = slash == all.npos ? 1.0 : plain_number(all.substr(slash + 1));
  if (!top || !bottom || *bottom == 0 || !std::isfinite(*top / *bottom))
    throw UsageError(what + " must be a number like 0.031, 1e-2 or 8/255, got '" + given + "'");
  return *top / *bottom;
}

std::vector<double> parse_numbers(const std::string& given, const std::string& what) {
  constexpr double kMost = 1000;
  const bool is_range = given.find(':') != std::string::npos;
  std::vector<double> numbers;
  std::istringstream parts(given + (is_range ? ":" : ","));
  for (std::string part; std::getline(parts, part, is_range ? ':' : ',');)
    numbers.push_back(parse_number(part, what));
  if (!is_range) {
    if (!std::is_sorted(numbers.begin(), numbers.end()))
      throw UsageError(what + " must be in ascending order, got '" + given + "'");
    return numbers;
  }
  if (numbers.size() != 3 || !(numbers[2] > 0) || !(numbers[1] >= numbers[0]) ||
      (numbers[1] - numbers[0]) / numbers[2] >= kMost)
    throw UsageError(what +
                     " must be a list like 0.1,0.2 or a range from:to:step like 0:0.1:0.02, "
                     "of at most 1000 numbers, got '" +
                     given + "'");
  // The end belongs to it whatever its last bit.
  const auto steps = static_cast<int>(std::floor((numbers[1] - numbers[0]) / numbers[2] + 1e-9));
  std::vector<double> range;
  for (int i = 0; i <= steps; ++i)  // 0.55, not 0.5500000000000001
    range.push_back(std::round((numbers[0] + i * numbers[2]) * 1e9) / 1e9);
  return range;
}

double largest_eps(const std::string& norm) { return norm == "l2" ? 5 : 1; }

void require_eps(double eps, const std::string& what, const std::string& norm) {
  if (eps >= 0 && eps <= largest_eps(norm)) return;
  std::string message = text(what, " must be from 0 to ", largest_eps("linf"), " in linf, to ",
                             largest_eps("l2"), " in l2 (pixels are in [0, 1]), got ", eps);
  if (eps > 0 && eps <= 255)
    message += text("; did you mean ", short_number(eps), "/255 = ", short_number(eps / 255), "?");
  throw UsageError(message);
}

double parse_eps(const std::string& given, const std::string& what, const std::string& norm) {
  const double eps = parse_number(given, what);
  require_eps(eps, what, norm);
  return eps;
}

std::string print_eps(double eps) {
  return short_number(eps) + " (" + short_number(eps * 255) + "/255)";
}

}  // namespace moat::train
