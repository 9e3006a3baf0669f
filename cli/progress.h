#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

namespace moat::cli {

// What one line of progress says.
struct ProgressState {
  std::string label{};  // what is being done: "epoch 3/20"
  int64_t done = 0;     // in units
  int64_t total = 0;    // in units; 0: unknown
  double seconds = 0;   // since the start
  int64_t skipped = 0;  // of done: there before the start (a resumed run); not part of the rate
  std::string note{};   // running numbers: "loss 0.31"
  std::string unit = "images";
};

// Seconds left at the rate so far; NaN before anything is done or with an unknown total.
double seconds_left(const ProgressState& state);

// "epoch 3/20  ━━━━━━━╸─────  42 %  1.23 k images/s  1:05 min left  loss 0.31", at most `columns`
// wide: the note is cut first, then the bar goes.
std::string progress_bar(const ProgressState& state, int columns);

// The same without the bar, for a log file.
std::string progress_line(const ProgressState& state);

enum class ProgressStyle {
  off,    // --json, --quiet
  lines,  // not a terminal: a line at most every 10 s and one per finished unit
  bar,    // a terminal: one live line
};

// bar when standard error is a terminal (and not a dumb one), else lines.
ProgressStyle progress_style_of_stderr();

// One task's progress, images being the unit of work unless another is named. Not for several
// threads at once.
class Progress {
 public:
  struct Output {
    std::ostream* stream;             // nullptr: standard error
    std::function<double()> seconds;  // a clock; empty: the steady one
    std::function<int()> columns;     // the terminal's width now; empty: asks the system
    std::string unit;                 // what is counted; empty: images
  };

  // skipped: units of the total that were done before (a resumed run).
  Progress(ProgressStyle style, int64_t total, int64_t skipped = 0, Output output = {});
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // done counts units from the beginning of the task, the skipped ones included. Cheap: draws at
  // most ten times a second (lines: once in ten seconds).
  void update(int64_t done, std::string_view label, std::string_view note = {});

  // More turned out to be there than the constructor was told.
  void set_total(int64_t total) { state_.total = total; }

  // A line that stays: a finished epoch, a warning.
  void finished(std::string_view line);

  // Takes the bar off the screen; the next update draws it again.
  void clear();

 private:
  ProgressStyle style_;
  Output output_;
  ProgressState state_;
  double start_, last_drawn_;
  int drawn_ = 0;  // columns on the screen
};

}  // namespace moat::cli
