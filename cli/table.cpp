#include "cli/table.h"

#include <algorithm>
#include <utility>

#include "cli/display_width.h"
#include "engine/error.h"

namespace moat::cli {

namespace {

constexpr const char* kGap = "  ";

std::string line(const std::vector<std::string>& cells, const std::vector<Column>& columns,
                 const std::vector<int>& widths) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string cell = printable(cells[i]);
    const std::string space(static_cast<size_t>(widths[i] - display_width(cell)), ' ');
    out += (i ? kGap : "") + (columns[i].align == Align::right ? space + cell : cell + space);
  }
  return out.substr(0, out.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::row(std::vector<std::string> cells) {
  engine::require(cells.size() == columns_.size(), [&] {
    return engine::text("table: a row needs ", columns_.size(), " cells, got ", cells.size());
  });
  rows_.push_back(std::move(cells));
}

std::string Table::str() const {
  std::vector<std::string> titles, rules;
  std::vector<int> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(display_width(printable(titles[i])));
    for (const auto& cells : rows_)
      widths[i] = std::max(widths[i], display_width(printable(cells[i])));
    rules.emplace_back();
    for (int j = 0; j < widths[i]; ++j) rules.back() += "─";
  }
  std::string out = line(titles, columns_, widths) + line(rules, columns_, widths);
  for (const auto& cells : rows_) out += line(cells, columns_, widths);
  return out;
}

}  // namespace moat::cli
