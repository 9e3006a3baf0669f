#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/report/certificate.h"
#include "cli/report/checks.h"
#include "cli/report/headline.h"
#include "cli/report/html.h"
#include "cli/report/page.h"
#include "engine/error.h"
#include "tests/report_fixture.h"
#include "tests/temporary_folder.h"

namespace moat::cli::report {

using tests::report_document;
using tests::TemporaryFolder;
using tests::text_of;
using tests::write_text;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The error of reading and drawing the folder; "" when there is none.
std::string error_of(const std::filesystem::path& folder) {
  try {
    page({read_run(folder)});
  } catch (const engine::Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("report: a run folder is read as it was written") {
  const TemporaryFolder folder;
  tests::write_run(folder.path() / "run");
  const Run run = read_run(folder.path() / "run" / "");
  CHECK(run.name == "run");
  CHECK(run.method == "advmoe");
  CHECK(run.parameters == 1234);
  CHECK(run.train_seconds == 8);
  REQUIRE(run.evaluations.size() == 1);
  const Evaluation& e = run.evaluations[0];
  CHECK(e.protocol == "pgd-50@1");
  CHECK(e.robust == 0.4);
  CHECK(e.robust_interval.low == 0.11);
  CHECK(*e.gate_open() == 0.6);
  CHECK(*e.gate_blocked() == 0.4);
  CHECK(*smallest_share(e) == 0.4);
  CHECK(e.samples[1].adversarial_route == 1);
  CHECK(e.samples[3].fooled_by == "clean");
}

TEST_CASE("report: the interval is Wilson's where the file has none") {
  const TemporaryFolder folder;
  auto report = report_document();
  report["results"].erase("ci95");
  tests::write_config(folder.path());
  tests::write_evaluation_folder(folder.path() / "eval" / "a", report);
  const train::Interval i = read_run(folder.path()).evaluations[0].robust_interval;
  CHECK(i.low == Approx(train::wilson_interval(2, 5).low));
  CHECK(i.high == Approx(train::wilson_interval(2, 5).high));
}

TEST_CASE("report: terminal, page and --json say the same") {
  const TemporaryFolder folder;
  tests::write_run(folder.path() / "one");
  tests::write_config(folder.path() / "two");
  const std::vector<Run> runs{read_run(folder.path() / "one"), read_run(folder.path() / "two")};
  const Table table = headline_table(runs);
  CHECK(table.rows().size() == 2);
  CHECK(table.rows()[0] == std::vector<std::string>{"one", "advmoe", "moe-digits-resnet", "80.0",
                                                    "40.0", "11.0 … 77.0", "60.0", "40.0", "1.23 k",
                                                    "5.00 k", "8.0 s", "1.5 s"});
  CHECK(table.rows()[1][4] == "–");
  CHECK(has(page(runs), html_table(table)));

  const Json json = headline_json(runs);
  REQUIRE(json["runs"].size() == 2);
  CHECK(json["runs"][0]["ra"] == 0.4);
  CHECK(json["runs"][0]["ra_ci"] == Json::parse("[0.11,0.77]"));
  CHECK(json["runs"][0]["alone"]["pgd-50 through"] == 0.6);
  CHECK(json["runs"][0]["expert_share_min"] == 0.4);
  CHECK(json["runs"][0]["train_seconds"] == 8.0);
  CHECK(json["runs"][0]["validation_best"] == 0.5);
  CHECK(json["runs"][0]["validation_best_epoch"] == 3);
  CHECK(json["runs"][0]["validation_last"] == 0.5);
  CHECK(json["runs"][1]["validation_best"].is_null());
  CHECK(json["runs"][1]["sa"].is_null());
  CHECK(json["runs"][1]["train_seconds"].is_null());
}

TEST_CASE("report: the page holds every part") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  const std::string html = page({read_run(folder.path())});
  for (const char* part : {"Training loss",
                           "Learning rate",
                           "Images per expert in training",
                           "Accuracy per class",
                           "Share of each class per expert, clean",
                           "class zero, expert 0: 2 of 2 images",
                           "The first 5 images",
                           "turned wrong",
                           "scaled 5 times",
                           "zero → two",
                           "expert 0 → 1",
                           "protocol.name",
                           "threat.eps_255",
                           "pgd-50 blocked alone",
                           "model.sha256",
                           "train.method",
                           "moved 40.0 % to another expert",
                           "expert 1 served 2 %",
                           "2 times",
                           "gate gradient",
                           "epoch 3: 75.0 %"}) {
    INFO(part);
    CHECK(has(html, part));
  }
  CHECK(html == page({read_run(folder.path())}));
}

TEST_CASE("report: what is proven stands beside what was attacked") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  CHECK_FALSE(read_run(folder.path()).certificate.has_value());
  tests::write_certificate(folder.path() / "certificate");
  const Run run = read_run(folder.path());
  REQUIRE(run.certificate.has_value());
  CHECK(run.certificate->radii == std::vector<double>{0.02, 0.002, 0.0001});
  const Table table = certified_table(*run.certificate);
  REQUIRE(table.rows().size() == 3);
  CHECK(table.columns()[6].title == "after pgd-10@1");
  CHECK(table.rows()[0][1] == "75.0");
  CHECK(table.rows()[0][2] == "30.1 … 95.4");  // Wilson's of 3 of 4
  CHECK(table.rows()[2] == std::vector<std::string>{"eps 0.01 (2.55/255)", "25.0", "4.0 … 70.0",
                                                    "0.0", "25.0", "0.0", "50.0", "–"});
  CHECK(proofs_table(*run.certificate).rows()[1][1] == "does not apply: not a dual model");
  CHECK(constants_table(*run.certificate).rows()[0][1] == "inf");
  // At 10^-3 two of four images are proven, of which three are right.
  const std::string html = page({run});
  for (const char* part : {"Proven", "log10 of eps", "-3: 50.0 %", "median 0.002, largest 0.02"}) {
    INFO(part);
    CHECK(has(html, part));
  }

  auto document = run.certificate->document;
  document["protocol"] = "none";
  document["results"]["curve"][0]["attacked"] = nullptr;
  write_text(folder.path() / "certificate" / "certificate.json", document.dump());
  const Run alone = read_run(folder.path());
  CHECK(certified_table(*alone.certificate).columns()[6].title == "route kept");
}

TEST_CASE("report: robust overfitting is shown") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  const auto course = [&](const std::string& robust) {
    write_text(folder.path() / "metrics.csv",
               "epoch,val_clean,val_robust,seconds\n0,0.5,0.2,3\n" + robust);
    return validation_course(read_run(folder.path()));
  };
  const auto falls = course("1,0.6,0.5,3\n2,0.7,,3\n3,0.7,0.44,3\n");
  CHECK(falls->best == 0.5);
  CHECK(falls->best_epoch == 2);
  CHECK(falls->last == 0.44);
  CHECK(overfitting_check(*falls).verdict == Verdict::warn);
  CHECK(overfitting_check(*falls).value == "best 50.0 % (epoch 2), last 44.0 %");
  CHECK(has(page({read_run(folder.path())}), "best 50.0 % (epoch 2), last 44.0 %"));
  CHECK(overfitting_check(*course("1,0.6,0.5,3\n2,0.7,0.46,3\n")).verdict == Verdict::pass);
  CHECK_FALSE(course("1,0.6,nan,3\n")->best > 0.2);
  write_text(folder.path() / "metrics.csv", "epoch,seconds\n0,3\n");
  CHECK_FALSE(validation_course(read_run(folder.path())).has_value());
}

// The fixture validates in its first and third epoch.
TEST_CASE("report: a line goes on over epochs without a validation") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  const std::string html = page({read_run(folder.path())}), start = "<path class=\"curve";
  size_t curves = 0, of_two_points = 0;
  for (size_t at = html.find(start); at != html.npos; at = html.find(start, at + 1), ++curves) {
    const size_t from = html.find(" d=\"", at) + 4, to = html.find('"', from);
    const std::string drawn = html.substr(from, to - from);
    CHECK(std::count(drawn.begin(), drawn.end(), 'M') == 1);
    of_two_points += std::count(drawn.begin(), drawn.end(), 'L') == 1;
  }
  CHECK(curves == 7);         // four accuracies less train_robust, loss, two shares, rate
  CHECK(of_two_points == 2);  // val_clean and val_robust
}

TEST_CASE("report: the page asks nobody for anything") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  const std::string html = page({read_run(folder.path())});
  CHECK_FALSE(has(html, "://"));
  CHECK_FALSE(has(html, "<script"));
  CHECK_FALSE(has(html, "url("));
  CHECK_FALSE(has(html, "@import"));
  for (size_t at = 0; (at = html.find("src=\"", at)) != std::string::npos; ++at)
    CHECK(html.compare(at, 28, "src=\"data:image/png;base64,i") == 0);
}

TEST_CASE("report: names and texts from files cannot become markup") {
  const TemporaryFolder folder;
  const std::string evil = "<img src=x onerror=alert(1)>";
  auto report = report_document();
  report["results"]["per_class"][0]["class"] = "\"></svg>" + evil;
  report["protocol"]["name"] = evil;
  report["data"]["name"] = evil;
  report["results"]["alone"][evil] = 0.5;
  report["machine"][evil] = evil;
  report["checks"] = Json::parse(R"([{"id":"<img src=x","status":"warn","explain":"<img src=x"}])");
  const auto run = folder.path() / evil;
  tests::write_run(run);
  tests::write_evaluation_folder(run / "eval" / evil, report);
  write_text(run / "metrics.csv", "epoch,<img src=x\n0,1\n");
  write_text(run / "events.jsonl", "{\"event\":\"<img src=x\",\"what\":\"<img src=x\"}\n");
  const std::string html = page({read_run(run), read_run(run)});
  CHECK_FALSE(has(html, "<img src=x"));
  CHECK(has(html, "&lt;img src=x onerror=alert(1)&gt;"));
}

TEST_CASE("report: what a run lacks is said in a sentence") {
  const TemporaryFolder folder;
  tests::write_config(folder.path() / "started");
  const std::string started = page({read_run(folder.path() / "started")});
  CHECK(has(started, "No epoch is recorded yet"));
  CHECK(has(started, "not evaluated yet"));

  auto dense = report_document();
  dense["moe"] = nullptr;
  dense["results"]["alone"] = {{"pgd-50", 0.4}};
  tests::write_config(folder.path() / "dense");
  write_text(folder.path() / "dense" / "metrics.csv", "epoch,train_loss\n0,1.5\n");
  const auto eval = folder.path() / "dense" / "eval" / "a";
  tests::write_evaluation_folder(eval, dense);
  std::filesystem::remove(eval / "adversarial.safetensors");
  std::filesystem::remove(eval / "per_sample.csv");
  const std::string html = page({read_run(folder.path() / "dense")});
  CHECK(has(html, "does not route whole images"));
  CHECK(has(html, "kept no pictures"));
  CHECK_FALSE(has(html, "gate open"));
}

TEST_CASE("report: several protocols of a run are rows of their own") {
  const TemporaryFolder folder;
  auto other = report_document();
  other["protocol"]["name"] = "pgd-20@1";
  tests::write_run(folder.path());
  tests::write_evaluation_folder(folder.path() / "eval" / "pgd-20@1", other);
  const Table table = headline_table({read_run(folder.path())});
  REQUIRE(table.rows().size() == 2);
  CHECK(table.columns()[3].title == "protocol");
  CHECK(table.rows()[0][3] == "pgd-20@1");
}

TEST_CASE("report: rows of other checkpoints and images say so") {
  const TemporaryFolder folder;
  auto other = report_document();
  other["protocol"]["name"] = "pgd-20@1";
  other["model"]["file"] = "runs/x/checkpoints/last.safetensors";
  other["data"]["split"] = "train";
  tests::write_run(folder.path());
  tests::write_evaluation_folder(folder.path() / "eval" / "pgd-20@1", other);
  const Table table = headline_table({read_run(folder.path())});
  REQUIRE(table.rows().size() == 2);
  CHECK(table.columns()[4].title == "checkpoint");
  CHECK(table.rows()[0][4] == "last");
  CHECK(table.rows()[1][4] == "best");
  CHECK(table.columns()[5].title == "images");
  CHECK(table.rows()[0][5] == "5 train");
  CHECK(table.rows()[1][5] == "5 test");
}

TEST_CASE("report: curves of the checks, and accuracy after each attack") {
  const TemporaryFolder folder;
  auto report = report_document();
  report["results"]["alone"] = Json::object();
  report["results"]["after"] = {{"apgd-ce", 0.6}, {"square", 0.4}};
  report["checks"] = {{{"id", "G17 a larger ball is not safer"},
                       {"status", "pass"},
                       {"curve", {{0, 0.8}, {0.05, 0.6}, {0.1, 0.4}}}}};
  tests::write_config(folder.path());
  tests::write_evaluation_folder(folder.path() / "eval" / "a", report);
  const std::string html = page({read_run(folder.path())});
  CHECK(has(html, "Robust accuracy over eps"));
  CHECK(has(html, "after apgd-ce"));
  report["checks"][0]["curve"][1] = {0.05};
  tests::write_evaluation_folder(folder.path() / "eval" / "a", report);
  CHECK(has(error_of(folder.path()), "must be a list of two numbers"));
}

TEST_CASE("report: checks judge what the files say") {
  const TemporaryFolder folder;
  auto report = report_document();
  report["results"]["robust"] = 0.9;
  report["moe"]["usage_clean"] = {5, 0};
  report["verify"]["largest_linf"] = 0.1001;
  report["verify"]["changed_in_other_batches"] = 2;
  tests::write_config(folder.path());
  tests::write_evaluation_folder(folder.path() / "eval" / "a", report);
  const auto verdict = [&](const char* subject) {
    for (const Check& c : checks(read_run(folder.path()).evaluations[0]))
      if (c.subject == subject) return std::string(name_of(c.verdict));
    return std::string("none");
  };
  CHECK(verdict("order of accuracies") == "fail");
  CHECK(verdict("expert use") == "warn");
  CHECK(verdict("gate gradient") == "warn");
  CHECK(verdict("distance") == "fail");
  CHECK(verdict("batch independence") == "fail");
  CHECK(verdict("model untouched") == "pass");

  // An evaluation that says so itself says it once.
  report["checks"] = Json::array();
  for (const char* id : {"G5 a", "G6 b", "G7b c", "M11 d"})
    report["checks"].push_back({{"id", id}, {"status", "pass"}});
  tests::write_evaluation_folder(folder.path() / "eval" / "a", report);
  for (const char* subject : {"expert use", "distance", "batch independence", "model untouched"})
    CHECK(verdict(subject) == "none");
  CHECK(verdict("M11 d") == "pass");
  CHECK(verdict("order of accuracies") == "fail");
}

TEST_CASE("report: a broken folder is one line that names the file") {
  struct Row {
    const char* file;
    std::function<void(Json&)> edit;  // of report.json; the others are overwritten with `bytes`
    std::string bytes, message;
  };
  const char* report = "eval/pgd-50@1/report.json";
  const std::string deep(100, '[');
  const std::vector<Row> rows{
      {"config.json",
       {},
       "{\"model\"",
       "must be a JSON document, it ends too early, after byte 8 of 8"},
      {"config.json", {}, "{model", "must be a JSON document, it breaks at byte 2 of 6"},
      {"config.json", {}, "[1]", "must be a JSON object"},
      {"config.json",
       {},
       "{\"a\":" + deep + std::string(100, ']') + "}",
       "must not nest more than 64"},
      {"config.json", {}, "{\"train\":{\"method\":3.5}}", "model is missing"},
      {"config.json", {}, "{\"train\":7}", "train must be an object, got 7"},
      {"metrics.csv", {}, "epoch,lr\n0,0.1,7\n", "metrics.csv:2: must have 2 cells"},
      {"metrics.csv", {}, "epoch,seconds\n0,fast\n", "seconds must be a number, got \"fast\""},
      {"metrics.csv", {}, "lr\n0\n", "the first column must be epoch"},
      {"eval/pgd-50@1/per_sample.csv", {}, "index,label\n1,2\n", "column clean_pred is missing"},
      {"eval/pgd-50@1/per_sample.csv",
       {},
       "index,label,clean_pred,adv_pred\n1,2,3,4\n",
       "per_sample.csv only 1"},
      {"eval/pgd-50@1/adversarial.safetensors", {}, "short", "adversarial.safetensors"},
      {"certificate/certificate.json", {}, "{\"schema\":2}", "schema must be 1"},
      {"certificate/certificate.json", {}, "{\"schema\":1}", "data is missing"},
      {report, [](Json& j) { j["schema"] = 2; }, "", "schema must be 1"},
      {report, [](Json& j) { j["results"].erase("robust"); }, "", "results.robust is missing"},
      {report, [](Json& j) { j["results"]["clean"] = 97.5; }, "",
       "results.clean must be a fraction from 0 to 1, got 97.5"},
      {report, [](Json& j) { j["results"]["clean"] = "x\ny"; }, "", "results.clean must be"},
      {report, [](Json& j) { j["data"]["n"] = -5; }, "", "data.n must be a whole number from 0"},
      {report,
       [](Json& j) {
         j["moe"]["usage_clean"] = {1, 2, 3};
       },
       "", "moe.usage_clean must be a list of 2 counts"},
      {report, [](Json& j) { j["moe"]["class_by_expert_clean"][1] = {1}; }, "",
       "moe.class_by_expert_clean[1] must be a list of 2 counts"},
      {report, [](Json& j) { j["moe"]["class_by_expert_clean"].erase(0); }, "",
       "must be a list of 3 rows"},
      {report, [](Json& j) { j["results"]["per_class"] = 3; }, "", "per_class must be a list"},
      {report, [](Json& j) { j["results"]["ci95"]["robust"] = {0.1}; }, "", "two fractions"},
      {report, [](Json& j) { j["checks"] = Json::parse("[{\"id\":\"a\",\"status\":\"ok\"}]"); }, "",
       "checks[0].status must be pass, warn, fail or skip"},
  };
  for (const Row& row : rows) {
    const TemporaryFolder folder;
    tests::write_run(folder.path());
    auto document = report_document();
    if (row.edit) row.edit(document);
    write_text(folder.path() / row.file, row.edit ? document.dump() : row.bytes);
    const std::string error = error_of(folder.path());
    INFO(row.message << "\n" << error);
    CHECK(has(error, row.message));
    CHECK(has(error, std::filesystem::path(row.file).filename().string()));
    CHECK_FALSE(has(error, "\n"));
  }
}

TEST_CASE("report: a folder that is no run is said to be none") {
  const TemporaryFolder folder;
  CHECK(has(error_of(folder.path() / "missing"), "it does not exist"));
  CHECK(has(error_of(folder.path()), "config.json: is missing"));
}

TEST_CASE("report: a metrics row in progress is left out") {
  const TemporaryFolder folder;
  tests::write_run(folder.path());
  write_text(folder.path() / "metrics.csv", tests::metrics_text() + "3,0.00");
  CHECK(read_run(folder.path()).metrics.rows.size() == 3);
}

}  // namespace moat::cli::report
