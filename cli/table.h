#pragma once

#include <string>
#include <vector>

namespace moat::cli {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

// A table for people: header, rule, rows; columns two spaces apart, numbers to the right. Cells
// are UTF-8; control characters in them are made visible.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  void row(std::vector<std::string> cells);  // one cell per column
  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }

  std::string str() const;  // ends in a newline; no trailing spaces

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace moat::cli
