#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <tuple>

#include "engine/io/safetensors.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "tests/models_fixture.h"
#include "tests/noise_set.h"
#include "tests/temporary_folder.h"
#include "train/evaluation_checks.h"
#include "train/evaluation_report.h"
#include "train/objective.h"
#include "train/verification.h"

namespace moat::tests {

using namespace engine;
using namespace train;
using attacks::Against;
using attacks::Protocol;
using attacks::ProtocolRun;

namespace {

constexpr double kEps = 0.05;

// A routed model and images it classifies as they are labelled, but for the third.
struct Scene {
  models::Classifier model{tiny_moe(2), 3};
  data::ImageSet set;

  explicit Scene(int64_t n) {
    stir(model);
    set = noise_set(model.settings(), n, 4, 100);
    const Tensor images = data::batch_of(set).images;
    balance_router(model, images, {0, 0}, Mode::eval);
    balance_classes(model, images);
    set.labels = argmax(model.forward(images, Mode::eval).logits, 1).to_vector<int32_t>();
    set.labels[2] = (set.labels[2] + 1) % 5;
  }
};

// Three attacks, the later ones on what the earlier ones left.
Protocol some_protocol() {
  const attacks::Pgd weak{.threat = {.eps = kEps}, .steps = 1, .step = kEps};
  attacks::Pgd blocked{.threat = {.eps = kEps}, .steps = 6, .step = kEps / 3};
  blocked.objective.gate = attacks::Gate::blocked;
  attacks::Pgd margin = blocked;
  margin.objective.loss = attacks::Loss::margin;
  return {"three@1",
          {{"weak", weak},
           {"blocked", blocked, Against::survivors},
           {"margin", margin, Against::survivors}}};
}

void check_same(const Evaluation& a, const Evaluation& b, const std::vector<int32_t>& rows) {
  REQUIRE(b.samples.size() == rows.size());
  const Tensor points = gather_rows(a.adversarial, attacks::index_of(rows));
  CHECK(points.to_vector<float>() == b.adversarial.to_vector<float>());
  for (size_t i = 0; i < rows.size(); ++i) {
    const attacks::SampleResult &x = a.samples[size_t(rows[i])], &y = b.samples[i];
    INFO("image " << rows[i]);
    CHECK(std::tie(x.clean_prediction, x.adversarial_prediction, x.fooled_by, x.iteration) ==
          std::tie(y.clean_prediction, y.adversarial_prediction, y.fooled_by, y.iteration));
    CHECK(std::tie(x.margin, x.linf, x.l2, x.clean_route, x.adversarial_route, x.resisted) ==
          std::tie(y.margin, y.linf, y.l2, y.clean_route, y.adversarial_route, y.resisted));
  }
}

std::vector<int32_t> all_rows(int64_t n) {
  std::vector<int32_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

}  // namespace

TEST_CASE("evaluation: an image's result depends on no batch and no order", "[evaluation]") {
  Scene scene(40);
  const Evaluation whole = evaluate(scene.model, scene.set, some_protocol(), {.batch = 256});
  int64_t by[3] = {};
  for (const attacks::SampleResult& s : whole.samples)
    if (s.fooled_by >= 0) ++by[s.fooled_by];
  REQUIRE(by[0] > 0);
  REQUIRE(by[1] > 0);
  REQUIRE(whole.robust_correct(scene.set) > 0);
  CHECK(whole.clean_correct(scene.set) == 39);
  for (int batch : {1, 7}) {
    const Evaluation parts = evaluate(scene.model, scene.set, some_protocol(), {.batch = batch});
    check_same(whole, parts, all_rows(40));
  }
  const std::vector<int32_t> order = random_permutation(40, {.seed = 9});
  check_same(whole, evaluate(scene.model, select(scene.set, order), some_protocol(), {.batch = 7}),
             order);
}

TEST_CASE("evaluation: attacks on survivors see nobody else", "[evaluation]") {
  Scene scene(40);
  const Evaluation e = evaluate(scene.model, scene.set, some_protocol());
  for (size_t i = 0; i < e.samples.size(); ++i) {
    const attacks::SampleResult& s = e.samples[i];
    INFO("image " << i << " fooled by " << s.fooled_by);
    for (int a = 0; a < 3; ++a)
      CHECK(s.resisted[size_t(a)] ==
            (s.is_correct(scene.set.labels[i]) && (s.fooled_by < 0 || a < s.fooled_by)));
  }
}

TEST_CASE("evaluation: a run goes on from any of its states to the same end", "[evaluation]") {
  Scene scene(24);
  const data::Batch all = data::batch_of(scene.set);
  const attacks::Victims victims{all.images, all.labels, all.ids, {}};
  const auto begin = [&](int64_t batch) {
    return ProtocolRun(attack_model(scene.model), victims, some_protocol(), batch);
  };
  const auto finish = [&](ProtocolRun& run) {
    while (!run.is_done()) run.run_batch();
    return Evaluation{.protocol = run.protocol(),
                      .samples = run.result().samples,
                      .spent = run.result().spent,
                      .adversarial = run.result().adversarial,
                      .forwards = run.result().forwards,
                      .backwards = run.result().backwards};
  };
  ProtocolRun undisturbed = begin(5);
  const Evaluation whole = finish(undisturbed);
  ProtocolRun first = begin(5);
  int states = 0;
  auto first_state = first.state();
  for (; first.is_attacking(); ++states) {
    INFO("after " << states << " batches");
    ProtocolRun same = begin(5), other = begin(7);
    same.restore(first.state());
    other.restore(first.state());
    const Evaluation end = finish(same);
    check_same(whole, end, all_rows(24));
    CHECK(end.forwards == whole.forwards);
    CHECK(end.backwards == whole.backwards);
    check_same(whole, finish(other), all_rows(24));
    if (states == 6) first_state = first.state();
    first.run_batch();
  }
  CHECK(states > 10);

  auto state = undisturbed.is_done() ? begin(5).state() : undisturbed.state();
  state["fooled_by"] = Tensor::full({23}, -1, Dtype::i32);
  ProtocolRun third = begin(5);
  CHECK_THROWS_WITH(third.restore(state), Catch::Contains("'fooled_by' [24] in int32"));
  const auto refuses = [&](const char* message, const char* name, int64_t at, double value) {
    auto broken = first_state;
    const Tensor changed = broken.at(name).to(Dtype::f64).clone();
    changed.data_as<double>()[at] = value;
    broken[name] = changed.to(first_state.at(name).dtype());
    CHECK_THROWS_WITH(third.restore(broken), Catch::Contains(message));
  };
  refuses("route 2, of a model with 2", "clean_route", 3, 2);
  refuses("route -1, of a model with 2", "clean_route", 3, -1);
  refuses("costs from 0 to 1e+15", "spent", 2, std::nan(""));
  refuses("costs from 0 to 1e+15", "position", 2, -1);
  refuses("no stage 4", "position", 0, 4);
}

TEST_CASE("evaluation: the passes that are left are known from the start", "[evaluation]") {
  Scene scene(20);
  scene.set.labels[2] = (scene.set.labels[2] + 4) % 5;  // all are right
  Protocol protocol = some_protocol();
  for (attacks::NamedAttack& a : protocol.attacks) std::get<attacks::Pgd>(a.attack).threat.eps = 0;
  std::vector<int64_t> totals;
  evaluate(scene.model, scene.set, protocol,
           {.batch = 8, .progress = [&](const EvaluationStanding& at) {
              totals.push_back(at.passes_done + at.passes_left);
            }});
  // Clean and verdict, 1 step of two passes and a last look, 6 steps and a last look, twice.
  CHECK(totals == std::vector<int64_t>(totals.size(), 20 * (2 + 3 + 13 + 13)));
  CHECK(totals.size() == 5 * 3);
}

TEST_CASE("evaluation: stopped, continued, and not with another model", "[evaluation]") {
  Scene scene(24);
  const TemporaryFolder folder;
  const auto file = folder.path() / "eval" / "state.safetensors";
  const Evaluation whole = evaluate(scene.model, scene.set, some_protocol());
  int asked = 0;
  CHECK_THROWS_WITH(
      evaluate(scene.model, scene.set, some_protocol(),
               {.batch = 5, .state = file, .stop_requested = [&] { return ++asked == 14; }}),
      Catch::Contains("stopped in the attack 'weak'") && Catch::Contains("goes on from here"));
  REQUIRE(std::filesystem::exists(file));

  const auto again = [&](models::Classifier& model, const data::ImageSet& set, double eps) {
    Protocol protocol = some_protocol();
    std::get<attacks::Pgd>(protocol.attacks[0].attack).threat.eps = eps;
    return evaluate(model, set, protocol, {.batch = 9, .state = file});
  };
  models::Classifier other(tiny_moe(2), 4);
  CHECK_THROWS_WITH(again(other, scene.set, kEps), Catch::Contains("another model"));
  CHECK_THROWS_WITH(again(scene.model, first_rows(scene.set, 23), kEps),
                    Catch::Contains("another data set"));
  CHECK_THROWS_WITH(again(scene.model, scene.set, 2 * kEps), Catch::Contains("another protocol"));
  const Evaluation continued = again(scene.model, scene.set, kEps);
  check_same(whole, continued, all_rows(24));
  REQUIRE(std::filesystem::exists(file));  // until the result is safe: it can be killed before
  check_same(whole, again(scene.model, scene.set, kEps), all_rows(24));
}

TEST_CASE("evaluation: a stop is heard within a batch", "[evaluation]") {
  Scene scene(24);
  const TemporaryFolder folder;
  const auto file = folder.path() / "state.safetensors";
  const Evaluation whole = evaluate(scene.model, scene.set, some_protocol());
  int asked = 0;
  evaluate(scene.model, scene.set, some_protocol(),
           {.batch = 24, .stop_requested = [&] { return ++asked < 0; }});
  REQUIRE(asked > 20);  // of one batch a stage
  for (const int at : {1, 2, 7, 12, 16, asked - 1}) {
    CAPTURE(at);
    int calls = 0;
    CHECK_THROWS_WITH(
        evaluate(scene.model, scene.set, some_protocol(),
                 {.batch = 24, .state = file, .stop_requested = [&] { return ++calls >= at; }}),
        Catch::Contains("goes on from here"));
    CHECK(calls == at);  // no pass after it
    check_same(whole,
               evaluate(scene.model, scene.set, some_protocol(), {.batch = 24, .state = file}),
               all_rows(24));
    std::filesystem::remove(file);
  }
}

TEST_CASE("evaluation: ended in the checks, it goes on from its attacks", "[evaluation]") {
  Scene scene(6);
  const TemporaryFolder folder;
  const auto file = folder.path() / "state.safetensors";
  const Evaluation e = evaluate(scene.model, scene.set, some_protocol(), {.state = file});
  const EvaluationSubject on{.model = scene.model,
                             .file = "m.safetensors",
                             .sha256 = "",
                             .selected_on = "none",
                             .set = scene.set,
                             .threat = {.eps = kEps},
                             .batch = 8,
                             .checks = 2,
                             .seed = 0};
  CHECK_THROWS_WITH(write_evaluation(e, on, folder.path(),
                                     [](const auto&) { throw Error("stopped in the checks"); }),
                    "stopped in the checks");
  CHECK_FALSE(std::filesystem::exists(folder.path() / "report.json"));
  std::vector<std::string> stages;
  const Evaluation again = evaluate(scene.model, scene.set, some_protocol(),
                                    {.state = file, .progress = [&](const EvaluationStanding& at) {
                                       stages.push_back(at.stage);
                                     }});
  CHECK(stages == std::vector<std::string>{"verdict"});
  check_same(e, again, all_rows(6));
}

TEST_CASE("evaluation: what the stages of moe-aa@1 add is a check each", "[evaluation]") {
  Scene scene(10);
  Evaluation e = evaluate(scene.model, scene.set, some_protocol());
  e.protocol.attacks[1].check = "M4";
  e.protocol.attacks[2].check = "M7";
  for (attacks::SampleResult& s : e.samples) s.fooled_by = -1;
  e.samples[4].fooled_by = 0;
  e.samples[5].fooled_by = 1;
  e.samples[6].fooled_by = e.samples[7].fooled_by = 2;
  const EvaluationSubject subject{scene.model, "", "", "none", scene.set, {.eps = kEps}, 256, 0, 1};
  const auto found = [&](const std::string& id) {
    for (const attacks::Check& c : evaluation_checks(e, subject, {}))
      if (c.id == id) return c;
    throw Error("no check " + id);
  };
  CHECK(found("M4").value == Approx(0.1));
  CHECK(found("M7").value == Approx(0.2));
  CHECK(found("M7").status == attacks::CheckStatus::warn);
  CHECK(found("M5").status == attacks::CheckStatus::skip);
  CHECK(found("G22").value == 1);
  attacks::Apgd targeted{.threat = {.eps = kEps}, .targets = 3};
  targeted.objective.loss = attacks::Loss::dlr_targeted;
  e.protocol.attacks[0].attack = targeted;
  CHECK(found("G22").value == 0);
  e.protocol = attacks::find_protocol("moe-aa@1", {.eps = kEps}, 0, attack_model(scene.model));
  for (const char* id : {"M4", "M5", "M6", "M7", "M8"})
    CHECK(found(id).status != attacks::CheckStatus::skip);
}

TEST_CASE("evaluation: names of attacks are cells of a table", "[evaluation]") {
  Scene scene(4);
  for (const std::string& name : attacks::protocol_names()) {
    const Protocol protocol =
        attacks::find_protocol(name, {.eps = kEps}, 0, attack_model(scene.model));
    std::set<std::string> seen;
    for (const attacks::NamedAttack& attack : protocol.attacks) {
      INFO(name << ": " << attack.name);
      CHECK(attack.name.find_first_of(",\"\n") == std::string::npos);
      CHECK(seen.insert(attack.name).second);
    }
  }
}

TEST_CASE("evaluation: stored images are judged by what they are", "[evaluation]") {
  Scene scene(12);
  const Evaluation e = evaluate(scene.model, scene.set, some_protocol());
  const TemporaryFolder folder;
  const nlohmann::ordered_json report = write_evaluation(
      e, {scene.model, "file", "hash", "none", scene.set, {.eps = kEps}, 256, 8, 1}, folder.path());
  CHECK(report.at("checks").size() > 20);
  for (const auto& check : report.at("checks"))
    if (check.at("id").get<std::string>().starts_with("G7")) CHECK(check.at("status") == "pass");
  CHECK(report.at("verify").at("outside_ball") == 0);
  CHECK(report.at("verify").at("outside_box") == 0);
  CHECK(report.at("verify").at("changed_in_other_batches") == 0);
  CHECK(report.at("protocol").at("attacks").at(1).at("against") == "survivors");
  CHECK(report.at("protocol").at("attacks").at(1).at("eps") == kEps);

  // Three images are moved: out of the ball, out of the box, and to no number at all.
  const auto file = folder.path() / "adversarial.safetensors";
  SafeTensors stored = read_safetensors(file);
  float* x = stored.tensors.at("adversarial").data_as<float>();
  const int64_t pixels = scene.set.image_bytes();
  x[0] = data::batch_of(scene.set).images.data_as<float>()[0] > 0.5F ? 0.0F : 1.0F;
  x[pixels] = 1.0000001F;
  x[3 * pixels] = std::nanf("");
  write_safetensors(file, stored);
  const Verification v = verify(scene.model, e, scene.set, {.eps = kEps}, 256, file);
  CHECK(v.outside_ball == 3);
  CHECK(v.outside_box == 2);
}

}  // namespace moat::tests
