#include "train/run_log.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"

namespace moat::train {

using tests::TemporaryFolder;
using tests::text_of;
using tests::write_text;

TEST_CASE("number_text is the shortest text that reads back") {
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(-3) == "-3");
  CHECK(number_text(std::nan("")) == "nan");
  CHECK(number_text(-std::numeric_limits<double>::infinity()) == "-inf");
  for (double x : {1.0 / 3, 5e-324, 1.7976931348623157e308, 0.30000000000000004})
    CHECK(std::stod(number_text(x == 5e-324 ? 1e-300 : x)) == (x == 5e-324 ? 1e-300 : x));
}

TEST_CASE("metrics: header once, one row per epoch, absent columns empty") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path() / "metrics.csv", 0);
  log.row(0, {{"lr", 0.1}, {"val_robust", 0.5}});
  log.row(1, {{"val_robust", std::nan("")}});
  CHECK(text_of(folder.path() / "metrics.csv") == "epoch,lr,val_robust\n0,0.1,0.5\n1,,nan\n");
  CHECK_THROWS_WITH(log.row(2, {{"extra", 1}}), Catch::Contains("has no column \"extra\""));
}

TEST_CASE("metrics: an interrupted and resumed run leaves the uninterrupted run's file") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "metrics.csv";
  const auto train = [&](int64_t from, int64_t to) {
    MetricsLog log(file, from);
    for (int64_t epoch = from; epoch < to; ++epoch)
      log.row(epoch, {{"loss", 1.0 / static_cast<double>(epoch + 3)}});
  };
  train(0, 6);
  const std::string whole = text_of(file);
  std::filesystem::remove(file);

  train(0, 4);
  write_text(file, text_of(file) + "4,0.1428");  // killed while writing
  train(2, 6);                                   // the checkpoint was two epochs older
  CHECK(text_of(file) == whole);

  train(0, 6);  // started over
  CHECK(text_of(file) == whole);
}

TEST_CASE("metrics: a torn header is started again") {
  const TemporaryFolder folder;
  write_text(folder.path() / "metrics.csv", "epoch,lo");
  MetricsLog(folder.path() / "metrics.csv", 0).row(0, {{"loss", 2}});
  CHECK(text_of(folder.path() / "metrics.csv") == "epoch,loss\n0,2\n");
}

TEST_CASE("metrics: a file that is not a metrics table is refused and kept") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "metrics.csv";
  for (const std::string bytes : {"name,age\nx,3\n", "epoch,loss\nfirst,3\n"}) {
    write_text(file, bytes);
    CHECK_THROWS_AS(MetricsLog(file, 5), engine::Error);
    CHECK(text_of(file) == bytes);
  }
}

TEST_CASE("metrics: names that would break the table are refused") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path() / "metrics.csv", 0);
  CHECK_THROWS_AS(log.row(0, {{"a,b", 1}}), engine::Error);
}

TEST_CASE("metrics: names given twice are refused") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path() / "metrics.csv", 0);
  CHECK_THROWS_WITH(log.row(0, {{"a", 1}, {"a", 2}}), Catch::Contains("twice"));
}

TEST_CASE("events: one object per line, in order, whatever the text holds") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "events.jsonl";
  EventLog(file).write("start", {{"seed", 3}});
  write_text(file, text_of(file) + "{\"time\":\"20");  // killed while writing
  {
    EventLog log(file);
    log.write("warning", {{"text", "two\nlines \xff"}, {"loss", std::nan("")}});
    log.write("done");
  }
  std::istringstream in(text_of(file));
  std::vector<nlohmann::ordered_json> lines;
  for (std::string line; std::getline(in, line);)
    lines.push_back(nlohmann::ordered_json::parse(line));
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].begin().key() == "time");
  CHECK(lines[0]["event"] == "start");
  CHECK(lines[0]["seed"] == 3);
  CHECK(lines[1]["text"] == "two\nlines \xef\xbf\xbd");
  CHECK(lines[1]["loss"].is_null());
  CHECK(lines[2]["event"] == "done");
}

TEST_CASE("a full disk is one line that names the file and the reason") {
  if (!std::filesystem::exists("/dev/full")) return;
  AppendFile full("/dev/full");
  CHECK_THROWS_WITH(full.write("x"), Catch::Contains("/dev/full: cannot be written") &&
                                         Catch::Contains("No space left"));
}

}  // namespace moat::train
