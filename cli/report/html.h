#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/table.h"

namespace moat::cli::report {

// Everything that comes from a file or a name goes through here: text for element content and
// double-quoted attributes. Control characters and broken UTF-8 become U+FFFD.
std::string escaped(std::string_view text);

std::string paragraph(std::string_view text, std::string_view style_class = {});

// A <table> of the same cells as Table::str() prints; empty without rows.
std::string html_table(const Table& table);

// Two columns, key and value.
std::string key_values(const std::vector<std::pair<std::string, std::string>>& rows);

// A JSON object as key_values, inner objects as dotted keys; lists in JSON's own notation.
std::string json_table(const nlohmann::ordered_json& object);

// A fold that is closed at first.
std::string fold(std::string_view title, std::string_view html);

std::string data_uri(std::string_view media_type, std::span<const uint8_t> bytes);

}  // namespace moat::cli::report
