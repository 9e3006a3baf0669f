#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/append_file.h"

namespace moat::train {

// Shortest decimal text that reads back as the same double; "nan", "inf", "-inf".
std::string number_text(double value);

// Columns of one row, in order. Names: letters, digits, '_', '.', '-', '/'.
using Columns = std::vector<std::pair<std::string, double>>;

// metrics.csv: one row per epoch, first column "epoch", the other columns fixed by the first row.
class MetricsLog {
 public:
  // Opens or creates the file for a run that continues at first_epoch: rows of that epoch and
  // later, and a row torn by a kill, are dropped, so that an interrupted and resumed run leaves
  // the same file as an uninterrupted one. Throws on a file that is not a metrics table.
  MetricsLog(const std::filesystem::path& file, int64_t first_epoch);

  // A column the first row has and this one lacks is left empty; one it does not have is an error.
  void row(int64_t epoch, const Columns& columns);

 private:
  std::filesystem::path path_;
  std::vector<std::string> header_;  // empty until the first row
  std::optional<AppendFile> file_;
};

// events.jsonl: one JSON object per line, flushed each: {"time": UTC, "event": name, …fields}.
class EventLog {
 public:
  // Appends; a line torn by a kill is cut off first.
  explicit EventLog(const std::filesystem::path& file);
  void write(std::string_view event, const nlohmann::ordered_json& fields);
  void write(std::string_view event);

 private:
  AppendFile file_;
};

}  // namespace moat::train
