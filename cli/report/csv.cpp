#include "cli/report/csv.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "cli/display_width.h"
#include "engine/error.h"
#include "engine/io/file.h"

namespace moat::cli::report {

using engine::require;
using engine::text;

namespace {

std::vector<std::string> cells_of(std::string_view line) {
  std::vector<std::string> cells;
  for (;;) {
    const size_t comma = line.find(',');
    cells.emplace_back(line.substr(0, comma));
    if (comma == line.npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

}  // namespace

int Csv::column(const std::string& name) const {
  const auto found = std::find(header.begin(), header.end(), name);
  return found == header.end() ? -1 : static_cast<int>(found - header.begin());
}

std::vector<double> Csv::numbers(const std::string& name) const {
  std::vector<double> out(rows.size(), std::numeric_limits<double>::quiet_NaN());
  const int at = column(name);
  for (size_t i = 0; at >= 0 && i < rows.size(); ++i) {
    const std::string& cell = rows[i][static_cast<size_t>(at)];
    if (cell.empty()) continue;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), out[i]);
    require(error == std::errc{} && end == cell.data() + cell.size(), [&] {
      return printable(text(file.string(), ":", i + 2, ": ", name, " must be a number, got \"",
                            fitted(cell, 40), "\""));
    });
  }
  return out;
}

Csv read_csv(const std::filesystem::path& file) {
  constexpr int64_t kMost = int64_t{256} << 20;
  Csv csv{.file = file, .header = {}, .rows = {}};
  if (!std::filesystem::exists(file)) return csv;
  const std::string bytes = engine::read_file(file, kMost);
  std::string_view rest = bytes;
  for (size_t number = 1, end; (end = rest.find('\n')) != rest.npos; ++number) {
    std::vector<std::string> cells = cells_of(rest.substr(0, end));
    rest.remove_prefix(end + 1);
    if (number == 1) {
      csv.header = std::move(cells);
      continue;
    }
    require(cells.size() == csv.header.size(), [&] {
      return text(file.string(), ":", number, ": must have ", csv.header.size(),
                  " cells like the header, it has ", cells.size());
    });
    csv.rows.push_back(std::move(cells));
  }
  return csv;
}

}  // namespace moat::cli::report
