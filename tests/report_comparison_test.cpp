#include <catch2/catch.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "cli/report/claims.h"
#include "cli/report/differences.h"
#include "cli/report/headline.h"
#include "cli/report/page.h"
#include "cli/report/recipe.h"
#include "tests/report_fixture.h"
#include "tests/temporary_folder.h"

// Runs and evaluations beside each other.

namespace moat::cli::report {

using tests::report_document;
using tests::TemporaryFolder;
using tests::write_text;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("report: evaluations of a run are told apart image by image") {
  const TemporaryFolder folder;
  auto other = report_document();
  other["protocol"]["name"] = "aa-standard@1";
  tests::write_run(folder.path());
  const auto second = folder.path() / "eval" / "aa-standard@1";
  tests::write_evaluation_folder(second, other);
  std::string samples = tests::samples_text();  // image 4 is fooled in place of image 24
  samples.replace(samples.find("4,0,0,0,,"), 9, "4,0,0,1,apgd,");
  samples.replace(samples.find("pgd-50 through"), 14, "");
  write_text(second / "per_sample.csv", samples);
  const Run run = read_run(folder.path());
  const auto found = differences_of(run);
  REQUIRE(found.size() == 1);
  CHECK(found[0].first->protocol == "aa-standard@1");
  CHECK(found[0].by_first_alone == std::vector<int64_t>{4});
  CHECK(found[0].by_second_alone == std::vector<int64_t>{24});
  CHECK(differences_table(found).rows()[0][5] == "1: 24");
  CHECK(differences_json(found)[0]["by_second_alone"] == Json{24});
  CHECK(has(page({run}), "Evaluations against each other"));
  other["threat"]["eps"] = 0.2;
  tests::write_evaluation_folder(second, other);
  CHECK(differences_of(read_run(folder.path())).empty());
}

namespace {

// Three seeds of a dense net and of AdvMoE on CIFAR-10 within 8/255, with these robust accuracies.
std::vector<Run> six_runs(const std::filesystem::path& root, std::vector<double> dense,
                          std::vector<double> moe) {
  std::vector<Run> runs;
  for (size_t i = 0; i < 6; ++i) {
    const bool is_moe = i >= 3;
    const auto folder = root / std::to_string(i);
    tests::write_config(folder);
    Json config = read_json(folder / "config.json");
    config["data"]["name"] = "cifar10";
    config["train"]["eps"] = 8.0 / 255;
    config["train"]["method"] = is_moe ? "advmoe" : "at";
    config["model"]["name"] = is_moe ? "moe-resnet18" : "resnet18";
    config["macs"]["executed"] = is_moe ? 2000 : 5000;
    config["run"]["seed"] = i;
    write_text(folder / "config.json", config.dump());
    auto report = report_document();
    report["threat"]["eps"] = 8.0 / 255;
    report["protocol"]["name"] = is_moe ? "moe-aa@1" : "aa-standard@1";
    report["results"]["robust"] = (is_moe ? moe : dense)[i % 3];
    if (!is_moe) report["moe"] = nullptr;
    tests::write_evaluation_folder(folder / "eval" / "aa", report);
    runs.push_back(read_run(folder));
  }
  return runs;
}

}  // namespace

TEST_CASE("report: seeds become one row, and papers' claims are judged by it") {
  const TemporaryFolder folder;
  const auto runs = six_runs(folder.path(), {0.4, 0.5, 0.6}, {0.5, 0.52, 0.54});
  const auto groups = same_runs(runs);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].runs.size() == 3);
  const Table table = side_by_side_table(groups);
  CHECK(table.rows()[0][3] == "50.0 ± 10.0");
  CHECK(table.rows()[0][4] == "–");  // a dense net has no MoE-AA
  CHECK(table.rows()[1][4] == "52.0 ± 2.0");
  CHECK(side_by_side_json(groups)[1]["moe_aa"]["values"] == Json{0.5, 0.52, 0.54});

  auto few = report_document();  // of the first folder by name, but of fewer images
  few["protocol"]["name"] = "pgd-10@1";
  few["data"]["n"] = 4;
  few["results"]["clean"] = 0.25;
  tests::write_evaluation_folder(folder.path() / "0" / "eval" / "a few", few);
  const std::vector<Run> with_few{read_run(folder.path() / "0")};
  REQUIRE(with_few[0].evaluations.front().clean == 0.25);
  CHECK(same_runs(with_few)[0].clean().values == std::vector<double>{0.8});

  const auto standings = [](const std::vector<Run>& all) {
    std::string out;
    for (const Claim& c : claims_about(same_runs(all)))
      out += c.measured + " " + name_of(c.standing) + ", ";
    return out;
  };
  CHECK(standings(runs) == "+2.0 points against at met, 40 % of its MACs met, 50.0 % met, ");
  const TemporaryFolder other;
  CHECK(standings(six_runs(other.path(), {0.6, 0.6, 0.6}, {0.5, 0.5, 0.5})) ==
        "−10.0 points against at not met, 40 % of its MACs met, 60.0 % not met, ");
  CHECK(standings({runs[3]}) == "– not comparable, ");
  auto with_trades = runs;  // the loss of AdvMoE's own dense baseline
  for (size_t i = 0; i < 3; ++i) {
    Run by_trades = runs[i];
    by_trades.method = "trades";
    by_trades.config["train"]["method"] = "trades";
    by_trades.evaluations[0].robust = 0.55;
    with_trades.push_back(by_trades);
  }
  CHECK(has(standings(with_trades), "−3.0 points against trades not met"));
  // The dense twin is the whole net that the mixture was made of.
  for (const auto& [section, key, value] : {std::tuple{"model", "ratio", Json(0.5)},
                                            {"model", "kept", Json(0.5)},
                                            {"model", "name", Json("preact-resnet18")}}) {
    auto others = runs;
    for (size_t i = 0; i < 3; ++i) {
      others[i].config[section][key] = value;
      if (key == std::string("name")) others[i].model = value;
    }
    INFO(key);
    CHECK(standings(others) == "– not comparable, ");
    CHECK(claims_about(same_runs(others))[0].reason ==
          "no resnet18 among the runs, trained by at or trades");
  }
  auto digits = runs;
  for (Run& run : digits) run.config["data"]["name"] = "digits";
  CHECK(has(standings(digits), "+2.0 points against at not comparable"));
  CHECK(has(page(runs), "What the papers say"));
}

TEST_CASE("report: two models are told apart image by image, and by a sign test") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const char* method, int seed) {
    tests::write_run(folder.path() / name);
    Json config = read_json(folder.path() / name / "config.json");
    config["train"]["method"] = method;
    config["run"]["seed"] = seed;
    write_text(folder.path() / name / "config.json", config.dump());
  };
  write("a0", "at", 0), write("a1", "at", 1), write("b1", "advmoe", 1), write("c2", "mart", 2);
  std::string samples = tests::samples_text();  // image 9 resists, and image 4 does not
  samples.replace(samples.find("pgd-50 blocked"), 14, "");
  samples.replace(samples.find("4,0,0,0,,"), 9, "4,0,0,1,x,");
  write_text(folder.path() / "b1" / "eval" / "pgd-50@1" / "per_sample.csv", samples);
  std::vector<Run> runs;
  for (const char* name : {"a0", "a1", "b1", "c2"}) runs.push_back(read_run(folder.path() / name));
  const auto groups = same_runs(runs);
  const auto found = differences_between(groups);
  REQUIRE(found.size() == 1);  // c2 has no partner with its seed
  CHECK(found[0].name == "b1");
  CHECK(found[0].seed == "1");
  CHECK(found[0].images.by_second_alone == std::vector<int64_t>{9});
  CHECK(found[0].images.by_first_alone == std::vector<int64_t>{4});
  CHECK(found[0].p == 1);
  CHECK(run_differences_json(found)[0]["resist_with_run_alone"] == 1);
  CHECK(has(page(runs), "Image by image, beside the first configuration"));
  runs.erase(runs.begin() + 1);  // the only one of the first configuration stands in
  CHECK(differences_between(same_runs(runs)).size() == 2);
  runs[1].evaluations[0].report["threat"]["eps"] = 0.2;
  CHECK(differences_between(same_runs(runs)).size() == 1);
}

TEST_CASE("report: a row's accuracies are of the same images, and fewer images are said") {
  const TemporaryFolder folder;
  const auto with = [&](const char* run, const char* protocol, int n, double clean, double robust) {
    auto report = report_document();
    report["protocol"]["name"] = protocol;
    report["data"]["n"] = n;
    report["results"]["clean"] = clean;
    report["results"]["robust"] = robust;
    if (!std::filesystem::exists(folder.path() / run / "config.json"))
      tests::write_config(folder.path() / run);
    tests::write_evaluation_folder(folder.path() / run / "eval" / protocol, report);
  };
  with("a", "pgd-50@1", 5, 0.8, 0.4);
  with("a", "pgd-10@1", 20000, 0.9, 0.5);
  const std::vector<Run> alone{read_run(folder.path() / "a")};
  const auto groups = same_runs(alone);
  CHECK(groups[0].clean().values == std::vector<double>{0.8});
  CHECK(side_by_side_table(groups).rows()[0][2] == "80.0");  // of 5 images
  CHECK(side_by_side_notes(groups).empty());
  // Once more, of more images; and another net.
  with("a", "pgd-10@1", 20, 0.9, 0.5);
  with("b", "pgd-50@1", 100, 0.7, 0.3);
  with("c", "pgd-50@1", 400, 0.6, 0.2);
  Json config = read_json(folder.path() / "c" / "config.json");
  config["model"]["name"] = "digits-resnet";
  write_text(folder.path() / "c" / "config.json", config.dump());
  const std::vector<Run> runs{read_run(folder.path() / "a"), read_run(folder.path() / "b"),
                              read_run(folder.path() / "c")};
  const auto three = same_runs(runs);
  REQUIRE(three.size() == 2);
  CHECK(three[0].robust("pgd-50@1").values == std::vector<double>{0.3});
  REQUIRE(three[0].repeated.size() == 1);
  CHECK(three[0].repeated[0]->name == "a");
  const auto notes = side_by_side_notes(three);
  REQUIRE(notes.size() == 3);
  CHECK(notes[0] == "SA %: of 100 images for b, of up to 400 for others.");
  CHECK(notes[1] == "RA %, PGD-50: of 100 images for b, of up to 400 for others.");
  CHECK(has(notes[2], "'" + (folder.path() / "a").string() + "' is seed 7 of b once more"));
}

TEST_CASE("report: numbers of other balls, images or checkpoints have no mean") {
  const TemporaryFolder folder;
  six_runs(folder.path(), {0.4, 0.5, 0.6}, {0.5, 0.52, 0.54});
  // Report of run 1 with another entry, and all six read anew.
  const auto with = [&](const char* section, const char* key, const Json& value) {
    auto report = read_json(folder.path() / "0" / "eval" / "aa" / "report.json");
    report["results"]["robust"] = 0.5;
    report[section][key] = value;
    tests::write_evaluation_folder(folder.path() / "1" / "eval" / "aa", report);
    std::vector<Run> runs;
    for (int i = 0; i < 6; ++i) runs.push_back(read_run(folder.path() / std::to_string(i)));
    return runs;
  };
  for (const auto& [section, key, value, what, has_clean] :
       std::vector<std::tuple<const char*, const char*, Json, const char*, bool>>{
           {"threat", "eps", 0.2, "eps", true},
           {"threat", "norm", "l2", "norm", true},
           {"data", "n", 4, "images", false},
           {"data", "sha256", "22ff", "images", false},
           {"model", "file", "last.safetensors", "checkpoints", false},
           {"model", "selected_on", "none", "checkpoints", false}}) {
    INFO(section << "." << key);
    const std::vector<Run> runs = with(section, key, value);
    const auto groups = same_runs(runs);
    REQUIRE(groups.size() == 2);
    CHECK(groups[0].robust("aa-standard@1").values.empty());
    CHECK(groups[0].robust("aa-standard@1").differing == what);
    CHECK(groups[0].clean().values.size() == (has_clean ? 3 : 0));
    const std::string note =
        std::string("No AA % of at · resnet18: its seeds' evaluations differ in ") + what + ".";
    CHECK(has(side_by_side_notes(groups).back(), note));
    CHECK(has(page(runs), "differ in " + std::string(what)));
    CHECK(side_by_side_table(groups).rows()[0][3] == "–");
    CHECK(claims_about(groups)[0].standing == Standing::not_comparable);
    CHECK(claims_about(groups)[0].reason == std::string("the evaluations differ in ") + what);
  }
  // One that is like the others' is taken, whatever else is there.
  with("threat", "eps", 0.2);
  std::filesystem::copy(folder.path() / "0" / "eval" / "aa", folder.path() / "1" / "eval" / "b");
  const std::vector<Run> pair{read_run(folder.path() / "0"), read_run(folder.path() / "1")};
  CHECK(same_runs(pair)[0].robust("aa-standard@1").values == std::vector<double>{0.4, 0.4});
  const Table headline = headline_table(pair);
  REQUIRE(headline.columns()[3].title == "within");
  CHECK(headline.rows()[1][3] == "L∞ 0.2 (51/255)");
  CHECK(headline_json(pair)["runs"][1]["eps"] == 0.2);
}

TEST_CASE("report: evaluations of a V-MoE with other room for its experts are rows of their own") {
  const TemporaryFolder folder;
  const auto with = [&](const char* run, const char* evaluation, double capacity, double robust) {
    auto report = report_document();
    report["protocol"]["name"] = "sign-40@1";
    report["model"]["moe"] = {{"capacity", capacity}, {"group", 1}, {"priority", "order"}};
    report["moe"] = nullptr;
    report["results"]["robust"] = robust;
    tests::write_config(folder.path() / run);
    Json config = read_json(folder.path() / run / "config.json");
    config["run"]["seed"] = run;
    write_text(folder.path() / run / "config.json", config.dump());
    tests::write_evaluation_folder(folder.path() / run / "eval" / evaluation, report);
  };
  with("0", "a", 1.5, 0.2), with("0", "b", 0, 0.4), with("1", "a", 0, 0.6),
      with("1", "b", 1.5, 0.4);
  const std::vector<Run> runs{read_run(folder.path() / "0"), read_run(folder.path() / "1")};
  const auto groups = same_runs(runs);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].name == "advmoe · moe-digits-resnet, capacity 1.5, order");
  CHECK(groups[1].name == "advmoe · moe-digits-resnet, room for all");
  CHECK(groups[0].robust("sign-40@1").values == std::vector<double>{0.2, 0.4});
  CHECK(groups[1].robust("sign-40@1").values == std::vector<double>{0.4, 0.6});
  CHECK(groups[0].passes_per_second().size() == 2);
  CHECK(side_by_side_table(groups).rows()[0][3] == "30.0 ± 14.1");
  CHECK(side_by_side_json(groups)[1]["room"] == "room for all");
  // Image by image only as another model of the same seed.
  CHECK(differences_of(runs[0]).empty());
  const auto between = differences_between(groups);
  REQUIRE(between.size() == 2);
  CHECK(between[1].images.first == &runs[1].evaluations[0]);
  CHECK(between[1].images.second == &runs[1].evaluations[1]);
  const Table headline = headline_table(runs);
  REQUIRE(headline.columns()[3].title == "room");
  CHECK(headline.rows()[0][3] == "capacity 1.5, order");
  CHECK(headline_json(runs)["runs"][1]["room"] == "room for all");
  CHECK(has(page(runs), "Under attack: sign-40@1, capacity 1.5, order"));
  CHECK(has(page(runs), "0, sign-40@1, room for all"));  // of a chart
  // A seed without one of the rooms has no number there.
  with("1", "b", 0.5, 0.4);
  const std::vector<Run> others{runs[0], read_run(folder.path() / "1")};
  const auto three = same_runs(others);
  REQUIRE(three.size() == 3);
  CHECK(three[1].robust("sign-40@1").values == std::vector<double>{0.2});
  CHECK(has(side_by_side_notes(three)[0], "capacity 0.5, order is of 1 of its 2 seeds"));
  // The parts of a dual model have the same room, or each its own.
  auto dual = report_document();
  const Json all{{"capacity", 0}, {"priority", "order"}};
  const auto room = [&](const Json& standard, const Json& robust) {
    dual["model"]["moe"] = {{"standard", standard}, {"robust", robust}};
    tests::write_evaluation_folder(folder.path() / "1" / "eval" / "a", dual);
    return read_run(folder.path() / "1").evaluations[0].room;
  };
  CHECK(room(all, all) == "room for all");
  CHECK(room(nullptr, all) == "room for all");
  CHECK(room({{"capacity", 2}, {"priority", "best-gate"}}, all) ==
        "capacity 2, best-gate and room for all");
}

TEST_CASE("report: claims are about one ball on both sides, and the papers'") {
  const TemporaryFolder folder;
  std::vector<Run> runs = six_runs(folder.path(), {0.4, 0.5, 0.6}, {0.5, 0.52, 0.54});
  const auto reason = [&] { return claims_about(same_runs(runs))[0].reason; };
  CHECK(reason().empty());
  const auto attacked_within = [&](size_t from, size_t to, double eps) {
    for (size_t i = from; i < to; ++i) {
      runs[i].evaluations[0].report["threat"]["eps"] = eps;
      runs[i].evaluations[0].eps = eps;
    }
  };
  attacked_within(3, 6, 4.0 / 255);
  CHECK(reason() == "the evaluations differ in eps");
  CHECK(side_by_side_table(same_runs(runs)).columns()[2].title == "within");
  attacked_within(0, 3, 4.0 / 255);
  CHECK(reason() == "published within 8/255, attacked within L∞ 0.0157 (4/255)");
  CHECK(side_by_side_table(same_runs(runs)).columns()[2].title == "SA %");
}

TEST_CASE("report: what RT-ER claims is of its own net, and of the whole model") {
  const TemporaryFolder folder;
  std::vector<Run> runs = six_runs(folder.path(), {0.6, 0.6, 0.6}, {0.5, 0.5, 0.5});
  runs = {runs[3]};
  runs[0].config["train"]["method"] = runs[0].method = "rt-er";
  CHECK(claims_about(same_runs(runs)).empty());
  runs[0].config["model"]["name"] = runs[0].model = "networks-resnet18";
  Evaluation& e = runs[0].evaluations[0];
  e.protocol = "components@1";
  e.alone = {{"experts (RA-E)", 0.8}, {"router (RA-R)", 0.7}};
  const auto claims = claims_about(same_runs(runs));
  REQUIRE(claims.size() == 3);
  CHECK(claims[0].standing == Standing::met);  // SA
  CHECK(claims[1].measured == "80.0 %");
  CHECK(claims[1].standing == Standing::not_comparable);
  CHECK(claims[2].standing == Standing::not_comparable);
}

TEST_CASE("report: a mixture of tokens' experts is set beside what costs as much") {
  const TemporaryFolder folder;
  std::vector<Run> runs = six_runs(folder.path(), {0.4, 0.5, 0.6}, {0.5, 0.5, 0.5});
  for (size_t i = 0; i < 6; ++i) {
    runs[i].config["train"]["method"] = runs[i].method = "at";
    runs[i].config["model"]["name"] = runs[i].model = i < 3 ? "vit-small-deep" : "v-moe-small";
    runs[i].macs = i < 3 ? 1020 : 1000;
    runs[i].evaluations[0].protocol = "aa-standard@1";
    runs[i].evaluations[0].experts.reset();
  }
  runs[5].evaluations[0].robust = 0.65;  // the mean is 55 against 50
  const auto claims = claims_about(same_runs(runs));
  REQUIRE(claims.size() == 1);
  CHECK(has(claims[0].measured, "+5.0 points"));
  CHECK(claims[0].standing == Standing::not_comparable);
  for (size_t i = 0; i < 3; ++i) runs[i].macs = 1100;  // another cost
  CHECK(claims_about(same_runs(runs)).empty());
}

TEST_CASE("report: JTDMoE is not judged by its robust half alone") {
  const TemporaryFolder folder;
  std::vector<Run> runs = six_runs(folder.path(), {0.6, 0.6, 0.6}, {0.5, 0.5, 0.5});
  runs = {runs[3], runs[4]};
  for (size_t i = 0; i < 2; ++i)
    runs[i].config["train"]["method"] = runs[i].method = i == 0 ? "jtdmoe" : "rt-er";
  const auto claims = claims_about(same_runs(runs));
  const Claim& claim = claims.back();
  CHECK(has(claim.source, "JTDMoE"));
  CHECK(has(claim.measured, "against its robust half by rt-er"));
  CHECK(claim.standing == Standing::not_comparable);
}

TEST_CASE("report: a seed counts once, whatever run its weights started with") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const std::string& start, int seed) {
    tests::write_run(folder.path() / name);
    Json config = read_json(folder.path() / name / "config.json");
    config["run"] = {{"seed", seed}, {"dir", "gone/" + name}};
    config["train"]["start"] = start;
    if (start.empty()) config["train"]["method"] = "natural";
    write_text(folder.path() / name / "config.json", config.dump());
    return read_run(folder.path() / name);
  };
  std::vector<Run> runs{write("start 0", "", 0), write("start 1", "", 1),
                        write("run 0", "gone/start 0", 0), write("run 1", "gone/start 1", 1)};
  CHECK(same_runs(runs).size() == 2);
  CHECK(same_runs(runs)[1].runs.size() == 2);
  runs.push_back(write("best", "gone/start 0/checkpoints/best.safetensors", 2));
  CHECK(same_runs(runs).size() == 3);
  runs.back() = write("absent", "gone/start 9", 2);
  CHECK(same_runs(runs).size() == 3);
  runs.back() = write("copy", "gone/start 1", 1);
  const auto groups = same_runs(runs);
  REQUIRE(groups.size() == 2);
  CHECK(groups[1].runs.size() == 2);
  CHECK(groups[1].robust("pgd-50@1").values.size() == 2);
  CHECK(has(side_by_side_notes(groups)[0], "copy' is seed 1 of advmoe · moe-digits-resnet"));

  write("start 0", "gone/run 0", 0);  // a circle ends
  CHECK(same_runs({read_run(folder.path() / "start 0")}).size() == 1);
}

TEST_CASE("report: older words for the same architecture are the same run") {
  const TemporaryFolder folder;
  const auto write = [&](const char* name, const Json& model, const char* gate) {
    tests::write_run(folder.path() / name);
    Json config = read_json(folder.path() / name / "config.json");
    config["model"].update(model);
    config["architecture"] = {{"gate", gate}};
    write_text(folder.path() / name / "config.json", config.dump());
    return recipe_of(read_run(folder.path() / name));
  };
  const std::string now = write("a", {{"gate", "zoo"}, {"score_norm", "zoo"}}, "softmax");
  CHECK(write("b", {{"gate", "softmax"}, {"score_norm", true}}, "softmax") == now);
  CHECK(write("c", {{"gate", "zoo"}, {"score_norm", "zoo"}}, "straight-through") != now);
}

}  // namespace moat::cli::report
