#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <utility>

#include "cli/display_width.h"
#include "cli/number_format.h"

namespace moat::cli {

namespace {

constexpr double kBarEvery = 0.1, kLineEvery = 10;  // seconds
constexpr const char* kClearLine = "\r\x1b[2K";

double steady_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

int columns_of_stderr() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

double rate(const ProgressState& s) {
  const auto done = static_cast<double>(s.done - s.skipped);
  return done > 0 && s.seconds > 0 ? done / s.seconds : std::numeric_limits<double>::quiet_NaN();
}

double fraction(const ProgressState& s) {
  if (s.total <= 0) return 0;
  return std::clamp(static_cast<double>(s.done) / static_cast<double>(s.total), 0.0, 1.0);
}

// "42 %  1.23 k images/s  1:05 min left", each part only when it is known, and no rate where one
// takes longer than ten seconds.
std::string numbers(const ProgressState& s) {
  std::string out;
  const auto add = [&](const std::string& part) { out += (out.empty() ? "" : "  ") + part; };
  if (s.total > 0) {
    const std::string whole = fixed(std::floor(100 * fraction(s)), 0);
    add(std::string(3 - std::min<size_t>(3, whole.size()), ' ') + whole + " %");
  }
  if (rate(s) >= 0.1) add(count(rate(s)) + " " + s.unit + "/s");
  if (!std::isnan(seconds_left(s)) && s.done < s.total) add(duration(seconds_left(s)) + " left");
  return out;
}

std::string bar(double part, int cells) {
  const int halves = static_cast<int>(part * 2 * cells);
  std::string out;
  for (int i = 0; i < cells; ++i) out += 2 * i + 1 < halves ? "━" : 2 * i < halves ? "╸" : "─";
  return out;
}

}  // namespace

double seconds_left(const ProgressState& s) {
  if (s.total <= 0) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(std::max<int64_t>(0, s.total - s.done)) / rate(s);
}

std::string progress_bar(const ProgressState& s, int columns) {
  constexpr int kWidest = 24, kNarrowest = 8;
  const std::string label = printable(s.label), right = numbers(s), note = printable(s.note);
  const int fixed_part = display_width(label) + 2 + 2 + display_width(right);
  std::string line = label;
  if (const int room = columns - fixed_part; s.total > 0 && room >= kNarrowest)
    line += "  " + bar(fraction(s), std::min(room, kWidest));
  if (!right.empty()) line += "  " + right;
  if (!note.empty()) line += "  " + note;
  return fitted(line, columns);
}

std::string progress_line(const ProgressState& s) {
  const std::string right = numbers(s);
  return printable(s.label) + (right.empty() ? "" : "  " + right) +
         (s.note.empty() ? "" : "  " + printable(s.note));
}

ProgressStyle progress_style_of_stderr() {
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return ::isatty(STDERR_FILENO) && !dumb ? ProgressStyle::bar : ProgressStyle::lines;
}

Progress::Progress(ProgressStyle style, int64_t total, int64_t skipped, Output output)
    : style_(style), output_(std::move(output)) {
  if (!output_.stream) output_.stream = &std::cerr;
  if (!output_.seconds) output_.seconds = steady_seconds;
  if (!output_.columns) output_.columns = columns_of_stderr;
  state_.total = total;
  if (!output_.unit.empty()) state_.unit = output_.unit;
  state_.skipped = state_.done = skipped;
  start_ = last_drawn_ = output_.seconds();
}

Progress::~Progress() { clear(); }

void Progress::update(int64_t done, std::string_view label, std::string_view note) {
  if (style_ == ProgressStyle::off) return;
  const double now = output_.seconds();
  state_.done = done;
  state_.label = label;
  state_.note = note;
  state_.seconds = now - start_;
  const bool first_bar = style_ == ProgressStyle::bar && drawn_ == 0;
  if (!first_bar && now - last_drawn_ < (style_ == ProgressStyle::bar ? kBarEvery : kLineEvery))
    return;
  last_drawn_ = now;
  if (style_ == ProgressStyle::lines) {
    *output_.stream << progress_line(state_) << std::endl;
    return;
  }
  // The last column stays empty: some terminals wrap there.
  const std::string line = progress_bar(state_, output_.columns() - 1);
  drawn_ = display_width(line);
  *output_.stream << kClearLine << line << std::flush;
}

void Progress::finished(std::string_view line) {
  if (style_ == ProgressStyle::off) return;
  clear();
  last_drawn_ = output_.seconds();
  *output_.stream << printable(line) << std::endl;
}

void Progress::clear() {
  if (drawn_ == 0) return;
  drawn_ = 0;
  *output_.stream << kClearLine << std::flush;
}

}  // namespace moat::cli
