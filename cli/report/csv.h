#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moat::cli::report {

// A comma-separated file without quotes, as moat writes them.
struct Csv {
  std::filesystem::path file;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;

  // -1 where there is no such column.
  int column(const std::string& name) const;

  // The column as numbers, NaN for empty cells; all NaN where there is no such column. Throws on
  // anything else, naming file and line.
  std::vector<double> numbers(const std::string& name) const;
};

// A last line without its end is a write in progress and left out. A missing file gives an empty
// table; a row of another length than the header, or a file over 256 MiB, throws.
Csv read_csv(const std::filesystem::path& file);

}  // namespace moat::cli::report
