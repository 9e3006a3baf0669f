#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace moat::cli::report {

using Json = nlohmann::ordered_json;

// Reads a JSON object from a file that may be anything. Throws one line with the file's name:
// missing, larger than 64 MiB, not JSON, nested deeper than 64, or not an object.
Json read_json(const std::filesystem::path& file);

// A place in a JSON file, read as a type; every error says "FILE: key must be …, got …".
class JsonView {
 public:
  JsonView(const Json& value, const std::filesystem::path& file, std::string key = {})
      : value_(&value), file_(file.string()), key_(std::move(key)) {}

  JsonView at(const std::string& key) const;                   // must be there
  std::optional<JsonView> find(const std::string& key) const;  // null counts as absent

  double number() const;                // finite
  double fraction() const;              // in [0, 1]
  int64_t count() const;                // a whole number from 0
  std::string str() const;              // text; a number is taken as its digits
  std::vector<JsonView> items() const;  // a list
  std::vector<std::pair<std::string, JsonView>> members() const;  // an object

  // The same, with a value for what is absent.
  double number_or(const std::string& key, double absent) const;
  std::string str_or(const std::string& key, const std::string& absent) const;

  const Json& json() const { return *value_; }
  [[noreturn]] void fail(const std::string& must_be) const;

 private:
  const Json* value_;
  std::string file_, key_;
};

}  // namespace moat::cli::report
