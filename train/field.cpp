#include "train/field.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <optional>
#include <type_traits>
#include <utility>

#include "engine/error.h"
#include "engine/io/json.h"
#include "engine/names.h"
#include "train/numbers.h"

namespace moat::train {

using engine::text;
using engine::UsageError;
using nlohmann::json;

namespace {

// What is allowed, in words: "a whole number from 1 to 64", "linf or l2".
std::string allowed(const Field& field) {
  const std::string range = range_of(field), type = type_of(field);
  if (field.rule.kind == Rule::choice) return range;
  if (type == "true or false") return type;
  if (type == "text") return "text in UTF-8 without control characters";
  return "a " + type + (range.empty() ? "" : " " + range);
}

// 65536 and not 6.5536e+04.
std::string digits(double x) {
  return x == std::rint(x) && std::abs(x) < 1e15 ? std::to_string(std::llrint(x)) : text(x);
}

[[noreturn]] void refuse(const Field& field, const json& given, const std::string& origin) {
  constexpr size_t kLongest = 60;
  std::string shown = engine::json_text(given);
  if (shown.size() > kLongest) shown = shown.substr(0, kLongest) + "…";
  std::string hint;
  if (given.is_string()) hint = engine::suggestion(given.get<std::string>(), field.rule.choices);
  throw UsageError(origin + field.name() + " must be " + allowed(field) + ", got " + shown + hint);
}

template <class T>
requires std::is_arithmetic_v<T>
bool holds(const Rule& rule, T given) {
  const auto x = static_cast<double>(given);
  switch (rule.kind) {
    case Rule::closed:
      return x >= rule.low && x <= rule.high;
    case Rule::open_low:
      return x > rule.low && x <= rule.high;
    case Rule::open_high:
      return x >= rule.low && x < rule.high;
    default:
      return std::isfinite(x);
  }
}

bool holds(const Rule& rule, const std::string& x) {
  const bool printable = std::none_of(x.begin(), x.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  });
  return printable &&
         (rule.kind != Rule::choice ||
          std::find(rule.choices.begin(), rule.choices.end(), x) != rule.choices.end());
}

bool is_utf8(const std::string& x) {
  try {
    return !json(x).dump().empty();
  } catch (const json::exception&) {
    return false;
  }
}

// The value as a T, or nothing when it is of another type or does not fit.
template <class T>
std::optional<T> converted(const json& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string() && is_utf8(value.get<std::string>())) return value.get<std::string>();
  } else if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
  } else if constexpr (std::integral<T>) {
    if (value.is_number_unsigned() && std::in_range<T>(value.get<uint64_t>()))
      return static_cast<T>(value.get<uint64_t>());
    if (value.is_number_integer() && !value.is_number_unsigned() &&
        std::in_range<T>(value.get<int64_t>()))
      return static_cast<T>(value.get<int64_t>());
  } else {
    if (value.is_number()) return value.get<double>();
  }
  return std::nullopt;
}

template <class T>
json parsed_integer(const std::string& given) {
  T value{};
  const char* end = given.data() + given.size();
  const auto [stop, error] = std::from_chars(given.data(), end, value);
  if (error != std::errc() || stop != end) return given;
  return value;
}

}  // namespace

std::string type_of(const Field& field) {
  Config config;
  return std::visit(
      []<class T>(T*) -> std::string {
        if constexpr (std::is_same_v<T, std::string>) return "text";
        if constexpr (std::is_same_v<T, bool>) return "true or false";
        return std::integral<T> ? "whole number" : "number";
      },
      field.slot(config));
}

std::string range_of(const Field& field) {
  const Rule& rule = field.rule;
  switch (rule.kind) {
    case Rule::any:
      return "";
    case Rule::choice:
      return engine::listed(rule.choices);
    case Rule::closed:
      return text("from ", digits(rule.low), " to ", digits(rule.high));
    case Rule::open_low:
      return text("above ", digits(rule.low), ", at most ", digits(rule.high));
    case Rule::open_high:
      return text("from ", digits(rule.low), ", below ", digits(rule.high));
    case Rule::radius:
      return text("from 0 to ", largest_eps("linf"), " (linf) or ", largest_eps("l2"), " (l2)");
  }
  return "";
}

json value_of(const Field& field, const Config& config) {
  // The slot of a const Config is only read.
  return std::visit([](const auto* value) { return json(*value); },
                    field.slot(const_cast<Config&>(config)));
}

json parse(const Field& field, const std::string& given) {
  Config config;
  return std::visit(
      [&]<class T>(T*) -> json {
        if constexpr (std::is_same_v<T, bool>) {
          if (given == "true" || given == "false") return given == "true";
          return given;
        } else if constexpr (std::integral<T>) {
          return parsed_integer<T>(given);
        } else {
          return given;
        }
      },
      field.slot(config));
}

void assign(const Field& field, Config& config, const json& value, const std::string& origin) {
  std::visit(
      [&]<class T>(T* slot) {
        std::optional<T> given = converted<T>(value);
        if constexpr (std::is_same_v<T, double>) {
          const std::string what = origin + field.name();
          if (value.is_string()) given = parse_number(value.get<std::string>(), what);
          if (given && field.rule.kind == Rule::radius) require_eps(*given, what, "l2");
        }
        if constexpr (std::is_same_v<T, std::string>)  // score_norm was a flag
          if (value.is_boolean() && field.rule.kind == Rule::choice)
            given = value.get<bool>() ? "true" : "false";
        if (!given || !holds(field.rule, *given)) refuse(field, value, origin);
        *slot = *given;
      },
      field.slot(config));
}

void check(const Field& field, const Config& config) {
  Config copy = config;
  assign(field, copy, value_of(field, config), "");
}

}  // namespace moat::train
