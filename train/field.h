#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "train/config.h"

namespace moat::train {

// What a value must satisfy besides its type.
struct Rule {
  enum Kind { any, choice, closed, open_low, open_high, radius } kind = any;
  double low = 0, high = 0;  // the intervals; a radius is judged with its norm by validate()
  std::vector<std::string> choices;  // choice
};

// Where a value lives in a Config.
using Slot = std::variant<std::string*, bool*, int*, int64_t*, uint64_t*, double*>;

// One setting, written once: reading, writing, overriding, checking and describing a configuration
// all go through the table of these.
struct Field {
  std::string section, key;
  Slot (*slot)(Config&);
  Rule rule;
  std::string meaning;

  std::string name() const { return section + "." + key; }
};
const std::vector<Field>& fields();  // grouped by section, in the order people read them

std::string type_of(const Field& field);   // "whole number", "number", "true or false", "text"
std::string range_of(const Field& field);  // "from 1 to 64", "linf or l2"; "" for anything
nlohmann::json value_of(const Field& field, const Config& config);

// The value that a command line's text stands for; anything that is not one stays text.
nlohmann::json parse(const Field& field, const std::string& given);

// Sets the value. A wrong type or a broken rule throws a UsageError that begins with `origin`.
void assign(const Field& field, Config& config, const nlohmann::json& value,
            const std::string& origin);

// Throws as assign() does when the value in `config` breaks the rule.
void check(const Field& field, const Config& config);

}  // namespace moat::train
