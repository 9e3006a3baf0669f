#pragma once

#include <string>
#include <vector>

#include "engine/io/json.h"

namespace moat::models {

// Reads typed, bounded members of one JSON object and names the culprit.
class Reader {
 public:
  Reader(const nlohmann::ordered_json& object, std::string at)
      : object_(object), at_(std::move(at)) {
    engine::require(object.is_object(), [&] { return at_ + " must be a JSON object"; });
  }

  int integer(const char* key, int low, int high) const {
    return checked(member(key), key, low, high);
  }
  enum class Empty { refused, allowed };
  std::vector<int> integers(const char* key, int low, int high,
                            Empty empty = Empty::refused) const {
    const nlohmann::ordered_json& list = member(key);
    const bool is_short = list.empty() && empty == Empty::refused;
    if (!list.is_array() || is_short || list.size() > 64) fail(key, "a list of 1 to 64 numbers");
    std::vector<int> out;
    for (const nlohmann::ordered_json& value : list) out.push_back(checked(value, key, low, high));
    return out;
  }
  double number(const char* key, double low, double high) const {
    const nlohmann::ordered_json& value = member(key);
    if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high))
      fail(key, engine::text("a number from ", low, " to ", high));
    return value.get<double>();
  }
  bool flag(const char* key) const {
    if (!member(key).is_boolean()) fail(key, "true or false");
    return member(key).get<bool>();
  }
  // Index of the text in `choices`.
  size_t choice(const char* key, const std::vector<std::string>& choices) const {
    std::string known;
    for (size_t i = 0; i < choices.size(); ++i) {
      if (member(key) == choices[i]) return i;
      known += (i ? " or " : "") + choices[i];
    }
    fail(key, known);
  }
  bool has(const char* key) const { return object_.contains(key); }
  const nlohmann::ordered_json& member(const char* key) const {
    const auto it = object_.find(key);
    engine::require(it != object_.end(),
                    [&] { return engine::text(at_, " lacks the key '", key, "'"); });
    return *it;
  }

 private:
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw engine::Error(engine::text(at_, ": ", key, " must be ", expected, ", got ",
                                     engine::json_text(member(key)).substr(0, 60)));
  }
  int checked(const nlohmann::ordered_json& value, const char* key, int low, int high) const {
    if (!value.is_number_integer() || value.get<int64_t>() < low || value.get<int64_t>() > high)
      fail(key, engine::text("a whole number from ", low, " to ", high));
    return value.get<int>();
  }
  const nlohmann::ordered_json& object_;
  std::string at_;
};

}  // namespace moat::models
