#include "train/run_log.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <ostream>

#include "engine/error.h"
#include "engine/io/json.h"

namespace moat::train {

using engine::require;
using engine::text;

namespace {

// The whole lines of a file, without the torn rest of a killed write. A missing file has none.
std::vector<std::string> whole_lines(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  if (!std::filesystem::exists(path)) return lines;
  const std::string bytes = engine::read_file(path);
  for (size_t from = 0, to; (to = bytes.find('\n', from)) != std::string::npos; from = to + 1)
    lines.push_back(bytes.substr(from, to - from));
  return lines;
}

std::string joined(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) line += (&cell == cells.data() ? "" : ",") + cell;
  return line + "\n";
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> cells(1);
  for (char c : line)
    if (c == ',')
      cells.emplace_back();
    else
      cells.back() += c;
  return cells;
}

int64_t epoch_of(const std::string& line, const std::filesystem::path& path, size_t number) {
  const std::string cell = line.substr(0, line.find(','));
  int64_t epoch = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), epoch);
  require(error == std::errc{} && end == cell.data() + cell.size(), [&] {
    return text(path.string(), ":", number, ": the first column must be an epoch, got \"", cell,
                "\"");
  });
  return epoch;
}

void check_name(const std::string& name) {
  const bool ok = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') ||
           std::string_view("_.-/").find(c) != std::string_view::npos;
  });
  require(ok, [&] {
    return text("metrics: a column name must be of letters, digits and _.-/, got \"", name, "\"");
  });
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto since = now.time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count() % 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char day[32], all[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(all, sizeof all, "%s.%03dZ", day, static_cast<int>(ms));
  return all;
}

// Cuts a torn last line off before the file is opened for appending.
const std::filesystem::path& without_torn_line(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return path;
  const std::string bytes = engine::read_file(path);
  const size_t whole = bytes.rfind('\n') + 1;  // npos + 1 = 0
  if (whole < bytes.size()) std::filesystem::resize_file(path, whole);
  return path;
}

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  require(error == std::errc{}, "number_text: 32 characters hold every double");
  return {digits, end};
}

MetricsLog::MetricsLog(const std::filesystem::path& file, int64_t first_epoch) : path_(file) {
  const std::vector<std::string> lines = whole_lines(file);
  std::string kept;
  if (!lines.empty()) {
    const std::vector<std::string> header = split(lines[0]);
    require(header[0] == "epoch", [&] {
      return text(file.string(), ": the first column must be \"epoch\", got \"", header[0],
                  "\"; move the file away to start another");
    });
    for (size_t i = 1; i < lines.size(); ++i)
      if (epoch_of(lines[i], file, i + 1) < first_epoch) kept += lines[i] + "\n";
    if (!kept.empty()) {
      header_ = header;
      kept = lines[0] + "\n" + kept;
    }
  }
  if (std::filesystem::exists(file))
    engine::write_file(file, [&](std::ostream& out) { out << kept; });
  file_.emplace(file);
}

void MetricsLog::row(int64_t epoch, const Columns& columns) {
  std::string head;
  if (header_.empty()) {
    std::vector<std::string> names{"epoch"};
    for (const auto& [name, value] : columns) {
      check_name(name);
      require(std::find(names.begin(), names.end(), name) == names.end(), [&, &column = name] {
        return text("metrics: column \"", column, "\" is given twice");
      });
      names.push_back(name);
    }
    header_ = names;
    head = joined(header_);
  }
  std::vector<std::string> cells(header_.size());
  cells[0] = std::to_string(epoch);
  for (const auto& [name, value] : columns) {
    const auto at = std::find(header_.begin() + 1, header_.end(), name);
    require(at != header_.end(), [&, &column = name] {
      return text(path_.string(), ": has no column \"", column,
                  "\"; the first row of the run fixes the columns");
    });
    cells[static_cast<size_t>(at - header_.begin())] = number_text(value);
  }
  file_->write(head + joined(cells));
}

EventLog::EventLog(const std::filesystem::path& file) : file_(without_torn_line(file)) {}

void EventLog::write(std::string_view event, const nlohmann::ordered_json& fields) {
  require(fields.is_object(), "event log: the fields must be a JSON object");
  nlohmann::ordered_json line{{"time", utc_now()}, {"event", std::string(event)}};
  for (const auto& [key, value] : fields.items()) line[key] = value;
  file_.write(engine::json_text(line) + "\n");
}

void EventLog::write(std::string_view event) { write(event, nlohmann::ordered_json::object()); }

}  // namespace moat::train
