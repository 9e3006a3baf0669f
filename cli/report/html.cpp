#include "cli/report/html.h"

#include "cli/display_width.h"
#include "engine/io/json.h"

namespace moat::cli::report {

namespace {

using Json = nlohmann::ordered_json;

std::string base64(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](size_t j) { return j < bytes.size() ? uint32_t{bytes[j]} : 0u; };
    const uint32_t word = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    for (size_t digit = 0; digit < 4; ++digit)
      out += i + digit <= bytes.size() ? kDigits[word >> (18 - 6 * digit) & 63] : '=';
  }
  return out;
}

void flatten(const Json& value, const std::string& key,
             std::vector<std::pair<std::string, std::string>>& rows) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [name, inner] : value.items())
      flatten(inner, key.empty() ? name : key + "." + name, rows);
    return;
  }
  const std::string shown = value.is_string() ? value.get<std::string>() : engine::json_text(value);
  rows.emplace_back(key, shown);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string paragraph(std::string_view text, std::string_view style_class) {
  const std::string attribute =
      style_class.empty() ? "" : " class=\"" + std::string(style_class) + "\"";
  return "<p" + attribute + ">" + escaped(text) + "</p>\n";
}

std::string html_table(const Table& table) {
  if (table.rows().empty()) return {};
  const auto cell = [&](const char* tag, size_t column, const std::string& text) {
    const bool number = table.columns()[column].align == Align::right;
    return std::string("<") + tag + (number ? " class=\"num\">" : ">") + escaped(text) + "</" +
           tag + ">";
  };
  std::string out = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < table.columns().size(); ++i)
    out += cell("th", i, table.columns()[i].title);
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows()) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) out += cell("td", i, row[i]);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string key_values(const std::vector<std::pair<std::string, std::string>>& rows) {
  std::string out = "<dl class=\"facts\">\n";
  for (const auto& [key, value] : rows)
    out += "<div><dt>" + escaped(key) + "</dt><dd>" + escaped(value.empty() ? "–" : value) +
           "</dd></div>\n";
  return out + "</dl>\n";
}

std::string json_table(const Json& object) {
  std::vector<std::pair<std::string, std::string>> rows;
  flatten(object, "", rows);
  return key_values(rows);
}

std::string fold(std::string_view title, std::string_view html) {
  return "<details><summary>" + escaped(title) + "</summary>\n" + std::string(html) +
         "</details>\n";
}

std::string data_uri(std::string_view media_type, std::span<const uint8_t> bytes) {
  return "data:" + std::string(media_type) + ";base64," + base64(bytes);
}

}  // namespace moat::cli::report
