#include "cli/progress.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>

#include "cli/display_width.h"
#include "cli/number_format.h"

namespace moat::cli {

TEST_CASE("numbers for people") {
  CHECK(duration(0.04) == "0.0 s");
  CHECK(duration(8.44) == "8.4 s");
  CHECK(duration(42.4) == "42 s");
  CHECK(duration(59.96) == "1:00 min");
  CHECK(duration(3599.7) == "1:00:00 h");
  CHECK(duration(7384) == "2:03:04 h");
  CHECK(duration(std::nan("")) == "–");
  CHECK(duration(INFINITY) == "> 30 years");
  CHECK(count(0) == "0");
  CHECK(count(742) == "742");
  CHECK(count(999.6) == "1.00 k");
  CHECK(count(12345) == "12.3 k");
  CHECK(count(999600) == "1.00 M");
  CHECK(count(5565450) == "5.57 M");
  CHECK(percent(0.8231, 359) == "82.3");
  CHECK(percent(0.82314, 10000) == "82.31");
  CHECK(fixed(-0.0, 1) == "0.0");
}

TEST_CASE("progress: time left comes from what this process did") {
  CHECK(seconds_left({.done = 250, .total = 1000, .seconds = 5}) == Approx(15));
  CHECK(seconds_left({.done = 600, .total = 1000, .seconds = 5, .skipped = 500}) == Approx(20));
  CHECK(std::isnan(seconds_left({.done = 500, .total = 1000, .seconds = 5, .skipped = 500})));
  CHECK(std::isnan(seconds_left({.done = 5, .total = 0, .seconds = 5})));
}

TEST_CASE("progress: the line") {
  const ProgressState state{
      .label = "epoch 3/20", .done = 420, .total = 1000, .seconds = 10, .note = "loss 0.31"};
  CHECK(progress_line(state) == "epoch 3/20   42 %  42 images/s  14 s left  loss 0.31");
  CHECK(progress_bar(state, 100) ==
        "epoch 3/20  ━━━━━━━━━━──────────────   42 %  42 images/s  14 s left  loss 0.31");
  CHECK(progress_bar({.label = "reading", .done = 12}, 40) == "reading");
  CHECK(progress_line({.label = "pilot", .done = 2, .total = 8, .seconds = 40, .unit = "runs"}) ==
        "pilot   25 %  2:00 min left");
  const ProgressState done{.label = "x", .done = 8, .total = 8, .seconds = 2};
  CHECK(progress_bar(done, 60) == "x  ━━━━━━━━━━━━━━━━━━━━━━━━  100 %  4 images/s");
}

TEST_CASE("progress: the bar never overruns the terminal") {
  const ProgressState state{.label = "AdvMoE – epoch 3/20",
                            .done = 420,
                            .total = 1000,
                            .seconds = 10,
                            .note = "Verlust 0.31  robust 71 %"};
  for (int columns = 0; columns < 140; ++columns) {
    const std::string line = progress_bar(state, columns);
    INFO(line);
    CHECK(display_width(line) <= columns);
  }
  CHECK(progress_bar(state, 60).find("42 %") != std::string::npos);
}

namespace {
struct Screen {
  std::ostringstream out;
  double now = 100;
  Progress::Output output() {
    return {.stream = &out,
            .seconds = [this] { return now; },
            .columns = [] { return 80; },
            .unit = {}};
  }
  std::string taken() {
    const std::string text = out.str();
    out.str("");
    return text;
  }
};
}  // namespace

TEST_CASE("progress: off prints nothing") {
  Screen screen;
  Progress progress(ProgressStyle::off, 10, 0, screen.output());
  progress.update(5, "x");
  progress.finished("epoch 1");
  CHECK(screen.taken().empty());
}

TEST_CASE("progress: lines come every ten seconds and per finished unit, without escapes") {
  Screen screen;
  Progress progress(ProgressStyle::lines, 100, 0, screen.output());
  for (int i = 1; i <= 50; ++i) {
    screen.now += 0.5;  // 25 seconds
    progress.update(i, "epoch 1/2");
  }
  CHECK(screen.taken() ==
        "epoch 1/2   20 %  2 images/s  40 s left\nepoch 1/2   40 %  2 images/s  30 s left\n");
  progress.finished("epoch 1: robust 71 %");
  CHECK(screen.taken() == "epoch 1: robust 71 %\n");
}

TEST_CASE("progress: the bar redraws in place, makes room for lines and clears itself") {
  Screen screen;
  const std::string clear = "\r\x1b[2K";
  {
    Progress progress(ProgressStyle::bar, 100, 0, screen.output());
    screen.now += 1;
    progress.update(10, "a");
    CHECK(screen.taken().rfind(clear + "a  ━━", 0) == 0);
    screen.now += 0.05;
    progress.update(11, "a");  // too soon
    CHECK(screen.taken().empty());
    progress.finished("epoch 1");
    CHECK(screen.taken() == clear + "epoch 1\n");
    progress.update(12, "a");  // drawn again at once
    CHECK_FALSE(screen.taken().empty());
  }
  CHECK(screen.taken() == clear);
}

TEST_CASE("progress: text from elsewhere cannot steer the terminal") {
  CHECK(progress_line({.label = "a\x1b[2Jb\n"}) == "a\xef\xbf\xbd[2Jb\xef\xbf\xbd");
}

}  // namespace moat::cli
