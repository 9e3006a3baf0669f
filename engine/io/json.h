#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.h"
#include "engine/io/file.h"

namespace moat::engine {

// What a JSON text of a file holds. The text may be hostile: throws one line that begins with
// `origin` when it is not JSON, holds a key twice (the second would win without a word), a number
// out of range, or levels beyond `deepest` (whatever prints it recurses).
template <class Json = nlohmann::json>
Json parse_json_value(std::string_view text_of_file, const std::string& origin, int deepest = 64) {
  std::vector<std::set<std::string>> open_objects;
  const auto watch = [&](int depth, typename Json::parse_event_t event, Json& value) {
    require(depth <= deepest,
            [&] { return text(origin, ": must not nest more than ", deepest, " levels"); });
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key)
      require(open_objects.back().insert(value.template get<std::string>()).second, [&] {
        return text(origin, ": the key ", value.dump(-1, ' ', true).substr(0, 80),
                    " stands there twice");
      });
    return true;
  };
  Json json;
  try {
    json = Json::parse(text_of_file, watch);
  } catch (const typename Json::parse_error& error) {
    const size_t bytes = text_of_file.size();
    throw Error(text(origin, ": must be a JSON document, it ",
                     error.byte > bytes ? "ends too early, after byte " : "breaks at byte ",
                     std::min(error.byte, bytes), " of ", bytes));
  } catch (const typename Json::exception&) {
    throw Error(text(origin, ": must not hold a number out of range"));
  }
  return json;
}

// The same, which must be an object.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text_of_file, const std::string& origin, int deepest = 64) {
  Json json = parse_json_value<Json>(text_of_file, origin, deepest);
  require(json.is_object(), [&] {
    return text(origin, ": must be a JSON object, got ", json.dump(-1, ' ', true).substr(0, 80));
  });
  return json;
}

// A document as text, on one line or indented by `indent` spaces. Names of files and folders are
// any bytes: what is not UTF-8 in a string becomes U+FFFD.
template <class Json>
std::string json_text(const Json& document, int indent = -1) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// Writes the document, indented, whole or not at all.
template <class Json>
void write_json(const std::filesystem::path& file, const Json& document) {
  write_file(file, [&](std::ostream& out) { out << json_text(document, 2) << '\n'; });
}

}  // namespace moat::engine
