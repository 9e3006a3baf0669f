#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/io/file.h"
#include "engine/io/safetensors.h"
#include "models/checkpoint.h"
#include "tests/models_fixture.h"
#include "tests/temporary_folder.h"
#include "tests/training_run.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include "train/weight_average.h"

// The options of training: schedules, the average, early stopping, rollback.

namespace moat::tests {

using namespace engine;
using namespace train;
namespace fs = std::filesystem;

namespace {

Config short_run(const fs::path& dir) {
  Config config;
  config.model.name = "digits-resnet";
  config.data.limit = 128;
  config.train.method = "natural";
  config.train.epochs = 2;
  config.train.batch = 50;
  config.train.steps = 1;
  config.eval.validation_steps = 1;
  config.run.dir = dir.string();
  return config;
}

std::vector<nlohmann::json> events(const fs::path& run, const std::string& name) {
  std::vector<nlohmann::json> out;
  std::istringstream lines(read_file(run / "events.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto event = nlohmann::json::parse(line);
    if (event["event"] == name) out.push_back(event);
  }
  return out;
}

void fill(FlatParameters& group, double value) { group.values().fill(value); }

}  // namespace

TEST_CASE("schedule: the factors by hand", "[train][schedule]") {
  TrainSettings s;
  s.epochs = 20;
  CHECK(schedule_factor(s, 0, 0) == 1);
  CHECK(schedule_factor(s, 10, 77) == Approx(0.5));
  s.schedule = "linear";
  CHECK(schedule_factor(s, 0, 0) == 1);
  CHECK(schedule_factor(s, 15, 77) == Approx(0.25));
  s.schedule = "step";
  CHECK(schedule_factor(s, 14, 0) == 1);
  CHECK(schedule_factor(s, 15, 0) == 0.1);
  CHECK(schedule_factor(s, 18, 0) == 0.01);
  s.schedule = "cyclic";
  // As released with RT-ER: 5e-5 up to 1e-4 in 500 iterations, and down in 500.
  s.cycle = 1000;
  s.cycle_base = 0.5;
  const auto rate = [&](int64_t iteration) { return 1e-4 * schedule_factor(s, 3, iteration); };
  CHECK(rate(0) == Approx(5e-5));
  CHECK(rate(1) == Approx(5e-5 + 1e-7));
  CHECK(rate(250) == Approx(7.5e-5));
  CHECK(rate(500) == Approx(1e-4));
  CHECK(rate(750) == Approx(7.5e-5));
  CHECK(rate(1000) == Approx(5e-5));
  CHECK(rate(int64_t{1000000} * 1000000 + 500) == Approx(1e-4));
  s.warmup_epochs = 4;
  CHECK(schedule_factor(s, 3, 500) == Approx(0.8));
  s.cycle = 1;
  s.warmup_epochs = 0;
  CHECK(schedule_factor(s, 0, 17) == 0.5);
}

TEST_CASE(
    "update: the frozen part keeps every bit, running statistics included, and starts as told",
    "[train][update]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "first");
  config.model.name = "digits-moe-resnet";
  train::train(config, Resume::never, {});
  const std::string start = config.run.dir;
  const auto tensors = [](const std::string& run, const char* file) {
    return read_safetensors(fs::path(run) / "checkpoints" / file).tensors;
  };
  const auto before = tensors(start, "last.safetensors");
  config.train.method = GENERATE("natural", "at", "trades", "mart");
  config.train.update = GENERATE("experts", "router");
  config.train.start = start;
  config.train.epochs = 1;
  config.train.ema = config.train.method == "natural" ? 0.9 : 0;
  config.run.dir = (folder.path() / "second").string();
  train::train(config, Resume::never, {});
  const bool moves_router = config.train.update == "router";
  int kept = 0, moved = 0;
  for (const auto& [name, now] : tensors(config.run.dir, "last.safetensors")) {
    const bool is_same = now.to_vector<float>() == before.at(name).to_vector<float>();
    const bool is_router = name.starts_with("router.");
    if (name.starts_with("normalize.")) continue;
    INFO(config.train.method << " " << config.train.update << ": " << name);
    if (is_router == moves_router)
      moved += !is_same;
    else
      CHECK(is_same);
    kept += is_same;
  }
  CHECK(kept > 10);
  CHECK(moved > 10);
  const auto state = tensors(config.run.dir, "last.state.safetensors");
  CHECK(state.contains("velocity.experts") != moves_router);
  CHECK(state.contains("velocity.router") == moves_router);
}

TEST_CASE("start: a run starts with another's weights, once", "[train][start]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "first");
  config.train.epochs = 1;
  train::train(config, Resume::never, {});
  config.train.start = config.run.dir;
  config.run.dir = (folder.path() / "second").string();
  config.train.learning_rate = 1e-30;
  config.train.epochs = 2;
  TrainWatcher after_one;
  int batches = 0;
  after_one.stop_requested = [&] { return ++batches == 4; };  // an epoch has 3
  CHECK(train::train(config, Resume::never, after_one).interrupted);
  fs::remove_all(folder.path() / "first" / "checkpoints");  // a resumed run asks for nothing
  CHECK(train::train(config, Resume::automatic, {}).epochs == 2);
  const auto weight = [&](const char* run) {
    return read_safetensors(folder.path() / run / "checkpoints" / "last.safetensors")
        .tensors.at("conv1.weight")
        .to_vector<float>();
  };
  const auto started = weight("second");
  config.run.dir = (folder.path() / "third").string();
  CHECK(error_of(config) == "'" + config.train.start +
                                "' must be a run folder with a checkpoint; it has no "
                                "checkpoints/last.safetensors");
  config.train.start = (folder.path() / "second").string();
  train::train(config, Resume::never, {});
  CHECK(weight("third") == started);
  config.model.name = "digits-moe-resnet";
  config.run.dir = (folder.path() / "fourth").string();
  CHECK_THAT(error_of(config), Catch::StartsWith("train.start="));
  CHECK(!fs::exists(config.run.dir));
}

TEST_CASE("average: three steps by hand", "[train][ema]") {
  Learner learner(tiny_moe(2), 2);
  Config config;
  config.train.ema = 0.5;
  fill(*learner.experts, 1);
  const auto set_buffers = [&](double value) {
    for (const NamedTensor& t : state_of(learner.model))
      if (t.role == Role::buffer) t.value->fill(value);
  };
  set_buffers(1);
  learner.prepare(config);
  // d = 2/11 after the first step, 3/12 after the second, 1/2 from step 8 on.
  const std::tuple<int64_t, double, double> steps[] = {
      {1, 12., 1 + 9. / 11 * 11}, {2, 2., 10 + 0.75 * -8}, {8, 8., 4 + 0.5 * 4}};
  for (const auto& [step, value, want] : steps) {
    fill(*learner.experts, value);
    set_buffers(value);
    learner.average->update(step);
    for (const WeightAverage::Part& part : learner.average->parts()) {
      INFO(part.name);
      if (part.name == "group.1") continue;  // the router's, which stays as drawn
      for (float v : part.average.to_vector<float>()) REQUIRE(v == Approx(want));
    }
  }
  const uint64_t own = fingerprint(learner.model);
  learner.average->exchange();
  for (float v : learner.experts->values().to_vector<float>()) REQUIRE(v == Approx(6));
  CHECK(fingerprint(learner.model) != own);
  learner.average->exchange();
  CHECK(fingerprint(learner.model) == own);
}

TEST_CASE("average: what is validated and written is the average, what trains on is not",
          "[training][ema]") {
  const TemporaryFolder folder;
  const auto run = [&](const char* name, double ema) {
    Config config = short_run(folder.path() / name);
    config.train.ema = ema;
    train::train(config, Resume::never, {});
    return folder.path() / name;
  };
  const fs::path plain = run("plain", 0), averaged = run("averaged", 0.9);
  const auto tensors = [](const fs::path& of, const char* file) {
    return read_safetensors(of / "checkpoints" / file);
  };
  const SafeTensors own = tensors(plain, "last.state.safetensors"),
                    state = tensors(averaged, "last.state.safetensors"),
                    model = tensors(averaged, "last.safetensors");
  CHECK(model.metadata.at("weights") == "average");
  CHECK(tensors(averaged, "best.safetensors").metadata.at("weights") == "average");
  CHECK(tensors(plain, "last.safetensors").metadata.at("weights") == "trained");
  const std::string filter = "conv1.weight";
  const auto values = [](const SafeTensors& file, const std::string& name) {
    return file.tensors.at(name).to_vector<float>();
  };
  CHECK(values(own, "model." + filter) == values(state, "model." + filter));
  CHECK(values(model, filter) != values(state, "model." + filter));
  const auto all = values(state, "average.group.0");
  const auto bias = values(model, "fc.bias");
  CHECK(std::search(all.begin(), all.end(), bias.begin(), bias.end()) != all.end());
  CHECK(read_file(plain / "metrics.csv") != read_file(averaged / "metrics.csv"));
}

TEST_CASE("training: adamw with every option is resumed to the same bits", "[training]") {
  const TemporaryFolder folder;
  const auto run = [&](const char* name) {
    Config c = short_run(folder.path() / name);
    c.model.name = "digits-moe-resnet";
    c.data.limit = 96;
    c.train.batch = 32;
    c.train.method = "mart";
    c.train.optimizer = "adamw";
    c.train.learning_rate = 1e-3;
    c.train.schedule = "cyclic";
    c.train.cycle = 4;
    c.train.ema = 0.9;
    c.train.awp = 0.005;
    c.train.awp_warmup = 1;
    return c;
  };
  train::train(run("whole"), Resume::never, {});
  const Config config = run("parts");
  TrainWatcher watcher;
  watcher.stop_requested = [batches = 5]() mutable { return --batches <= 0; };
  CHECK(train::train(config, Resume::never, watcher).epochs == 1);
  CHECK(train::train(config, Resume::automatic, {}).epochs == 2);
  for (const char* file : {"last.safetensors", "last.state.safetensors", "best.safetensors"})
    CHECK(bytes_of(folder.path() / "whole", file) == bytes_of(folder.path() / "parts", file));
  // A state without what the settings need is refused.
  Config other = run("parts");
  const fs::path state = folder.path() / "parts/checkpoints/last.state.safetensors";
  SafeTensors broken = read_safetensors(state);
  broken.metadata["epoch"] = "1";
  broken.tensors.erase("powers.router");
  write_safetensors(state, broken);
  CHECK_THAT(error_of(other, Resume::automatic),
             Catch::Contains("powers.router must be float64 [2]"));
}

TEST_CASE("training: patience ends a run that gets no better", "[training][patience]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "run");
  config.model.name = "digits-vit";  // without running statistics
  config.train.epochs = 9;
  config.train.learning_rate = 1e-12;  // every check finds the same
  config.train.patience = 3;
  config.eval.validation_every = 2;
  // Checked after epochs 1, 2, 4: the fourth is 3 behind the first.
  const TrainOutcome outcome = train::train(config, Resume::never, {});
  CHECK(outcome.epochs == 4);
  CHECK(outcome.best_epoch == 1);
  CHECK(outcome.last <= outcome.best);
  CHECK(train::train(config, Resume::automatic, {}).was_finished);
  const auto end = events(folder.path() / "run", "finished");
  REQUIRE(end.size() == 1);
  CHECK(end[0]["epoch"] == 4);
  CHECK(end[0]["best_epoch"] == 1);
  CHECK(end[0]["best"] == outcome.best);
  CHECK(end[0]["last"] == outcome.last);

  RunState state{.epoch = 5, .best_epoch = 1};
  CHECK_FALSE(is_over(config, state));  // no check after the fifth
  state.epoch = 6;
  CHECK(is_over(config, state));
  state.best_epoch = 4;
  CHECK_FALSE(is_over(config, state));
  config.train.patience = 0;
  state.best_epoch = 1;
  CHECK_FALSE(is_over(config, state));
}

TEST_CASE("training: a divergence leads back to the last epoch at half the rate",
          "[training][rollback]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "run");
  config.model.name = "digits-moe-resnet";
  config.train.method = "at";
  config.train.learning_rate = 1e30;
  CHECK_THAT(error_of(config), Catch::Contains("training diverged in epoch 1") &&
                                   Catch::Contains("train.rollbacks=3"));
  CHECK(events(folder.path() / "run", "rolled_back").empty());

  config.run.dir = (folder.path() / "back").string();
  config.train.rollbacks = 2;
  const std::string error = error_of(config);
  CHECK_THAT(error, Catch::Contains("training diverged in epoch 1"));
  const auto back = events(folder.path() / "back", "rolled_back");
  REQUIRE(back.size() == 2);
  CHECK_THAT(back[0]["what"].get<std::string>(),
             Catch::Contains("after epoch 0") && Catch::Contains("0.5 times the learning rate") &&
                 Catch::Contains("finite"));
  CHECK_THAT(back[1]["what"].get<std::string>(), Catch::Contains("0.25 times"));
  CHECK(events(folder.path() / "back", "diverged").size() == 3);
  const auto state = peek_state(folder.path() / "back/checkpoints/last.state.safetensors");
  CHECK(state->rollbacks == 2);
  CHECK(state->epoch == 0);
  // No rollback is left for who resumes.
  CHECK_THAT(error_of(config, Resume::automatic), Catch::Contains("training diverged in epoch 1"));
}

// Rolled back and halved, a run is the run that had half the rate from that epoch on.
TEST_CASE("training: after a rollback the state is the last epoch's", "[training][rollback]") {
  const TemporaryFolder folder;
  const auto run = [&](const char* name) {
    Config config = short_run(folder.path() / name);
    config.train.epochs = 3;
    config.train.rollbacks = 1;
    return config;
  };
  Config config = run("plain");
  TrainWatcher until_second;
  until_second.stop_requested = [batches = 7]() mutable { return --batches <= 0; };
  train::train(config, Resume::never, until_second);
  const fs::path state = folder.path() / "plain/checkpoints/last.state.safetensors";
  SafeTensors halved = read_safetensors(state);
  halved.metadata["rollbacks"] = "1";
  write_safetensors(state, halved);
  train::train(config, Resume::automatic, {});

  // The same, where a weight becomes NaN in the third epoch.
  config = run("spoiled");
  TrainWatcher spoil;
  int batches = 0;
  spoil.batch = [&](int64_t, int64_t, int, const StepStatistics&) { ++batches; };
  spoil.stop_requested = [&] {
    if (batches == 8) throw Diverged("fc.bias left the range of float32 in an update");
    return false;
  };
  train::train(config, Resume::never, spoil);
  CHECK(batches == 11);
  for (const char* file : {"last.safetensors", "last.state.safetensors", "best.safetensors"})
    CHECK(bytes_of(folder.path() / "plain", file) == bytes_of(folder.path() / "spoiled", file));
}

}  // namespace moat::tests
