#include "train/trainer.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/io/file.h"
#include "engine/io/safetensors.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"
#include "tests/training_run.h"

namespace moat::tests {

using namespace train;
namespace fs = std::filesystem;

namespace {

const char* const kFiles[] = {"last.safetensors", "last.state.safetensors", "best.safetensors"};

// A run of seconds: two epochs of 256 images, every part of the loop at work.
Config short_run(const fs::path& dir, const std::string& method = "advmoe") {
  Config config;
  config.model.name = "digits-moe-resnet";
  config.data.limit = 256;
  config.train.method = method;
  config.train.epochs = 2;
  config.train.batch = 100;
  config.train.steps = 2;
  config.eval.validation_steps = 2;
  config.run.dir = dir.string();
  return config;
}

void check_same_run(const fs::path& a, const fs::path& b) {
  for (const char* file : kFiles) {
    INFO(file);
    CHECK(bytes_of(a, file) == bytes_of(b, file));
  }
}

// Asks to stop after this many batches.
TrainWatcher stop_after(int batches) {
  TrainWatcher watcher;
  watcher.stop_requested = [batches]() mutable { return --batches <= 0; };
  return watcher;
}

}  // namespace

TEST_CASE("training: the same seed gives the same bytes", "[training]") {
  const TemporaryFolder folder;
  const Config config = short_run(folder.path() / "a");
  const TrainOutcome outcome = train::train(config, Resume::never, {});
  CHECK(outcome.epochs == 2);
  CHECK_FALSE(outcome.interrupted);
  train::train(short_run(folder.path() / "b"), Resume::never, {});
  check_same_run(folder.path() / "a", folder.path() / "b");
  Config other = short_run(folder.path() / "c");
  other.run.seed = 1;
  train::train(other, Resume::never, {});
  CHECK(bytes_of(folder.path() / "a", kFiles[0]) != bytes_of(folder.path() / "c", kFiles[0]));
}

TEST_CASE("training: data.limit cuts the training images alone", "[training]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "run", "natural");
  config.data.limit = 7;
  config.train.epochs = 1;
  // An accuracy tells of how many images it is a share; 359 and 11 are prime.
  const auto is_of = [&](int images) {
    fs::remove_all(config.run.dir);
    const double right = train::train(config, Resume::never, {}).last * images;
    return right > 0 && right < images && std::abs(right - std::round(right)) < 1e-9;
  };
  CHECK(is_of(359));
  config.eval.validation_limit = 11;
  CHECK(is_of(11));
}

TEST_CASE("training: every kind of augmentation changes the run and is in its folder",
          "[training]") {
  const TemporaryFolder folder;
  std::vector<std::string> weights;
  for (const char* setting :
       {"data.augment=none", "data.augment=crop-flip", "data.cutout=3", "data.cutout_fill=mean",
        "data.cutout_fill=0.5", "data.mixup=0.5", "data.cutmix=1"}) {
    INFO(setting);
    Config config = override_with(short_run(folder.path() / setting, "natural"), setting);
    if (std::string(setting).starts_with("data.cutout")) config.data.cutout = 3;
    config.model.name = "digits-resnet";
    config.train.epochs = 1;
    train::train(config, Resume::never, {});
    const auto written =
        nlohmann::json::parse(engine::read_file(folder.path() / setting / "config.json"));
    CHECK(written["data"] == to_json(config)["data"]);
    weights.push_back(bytes_of(folder.path() / setting, kFiles[0]));
  }
  for (size_t a = 0; a < weights.size(); ++a)
    for (size_t b = 0; b < a; ++b) CHECK(weights[a] != weights[b]);
}

TEST_CASE("training: interrupted and resumed is uninterrupted", "[training]") {
  const std::string method = GENERATE("at", "advmoe");
  const int stop = GENERATE(1, 3, 5);  // of 6 batches: before, at the end of, and after epoch 1
  const TemporaryFolder folder;
  const auto run = [&](const char* name) {
    Config c = short_run(folder.path() / name, method);
    c.data.mixup = c.data.cutmix = 1;
    return c;
  };
  train::train(run("whole"), Resume::never, {});
  const Config config = run("parts");
  const TrainOutcome first = train::train(config, Resume::never, stop_after(stop));
  CHECK(first.interrupted);
  CHECK(first.epochs == (stop > 3 ? 1 : 0));
  const TrainOutcome second = train::train(config, Resume::automatic, {});
  CHECK_FALSE(second.interrupted);
  CHECK(second.epochs == 2);
  check_same_run(folder.path() / "whole", folder.path() / "parts");
  const auto columns = [&](const char* name) {  // all but the seconds
    std::string text = engine::read_file(folder.path() / name / "metrics.csv"), kept;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at), last = text.rfind(',', end);
      kept += text.substr(at, last - at) + '\n';
      at = end + 1;
    }
    return kept;
  };
  CHECK(columns("whole") == columns("parts"));
}

// A dual model's state has the momentum of both of its models.
TEST_CASE("training: interrupted and resumed is uninterrupted, of a dual model",
          "[training][.long]") {
  const TemporaryFolder folder;
  const auto run = [&](const char* name) {
    Config c = short_run(folder.path() / name, "jtdmoe");
    c.model.ratio = 0.2;
    c.data.limit = 100;
    c.train.batch = 50;
    c.train.steps = 1;
    c.eval.validation_steps = 1;
    return c;
  };
  train::train(run("whole"), Resume::never, {});
  CHECK(train::train(run("parts"), Resume::never, stop_after(3)).epochs == 1);
  train::train(run("parts"), Resume::automatic, {});
  check_same_run(folder.path() / "whole", folder.path() / "parts");
  const engine::SafeTensors state =
      engine::read_safetensors(folder.path() / "whole/checkpoints/last.state.safetensors");
  for (const char* group : {"standard.experts", "standard.router", "robust.experts"})
    CHECK(state.tensors.contains(std::string("velocity.") + group));
}

TEST_CASE("training: what a run folder holds decides what may be done with it", "[training]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "run", "natural");
  train::train(config, Resume::never, stop_after(4));
  CHECK_THAT(error_of(config, Resume::never),
             Catch::Contains("unfinished run (1 of 2 epochs)") && Catch::Contains("--resume auto"));
  Config other = config;
  other.train.learning_rate = 0.05;
  CHECK_THAT(error_of(other, Resume::automatic),
             Catch::Contains("train.learning_rate = 0.1") && Catch::Contains("now it is 0.05"));
  other = config;
  other.run.seed = 7;
  CHECK_THAT(error_of(other, Resume::automatic), Catch::Contains("run.seed"));

  // A run of a program that did not have a setting yet goes on with the setting's default.
  const fs::path written = folder.path() / "run" / "config.json";
  auto document = nlohmann::ordered_json::parse(engine::read_file(written));
  CHECK(document["data"]["cutout_fill"] == "0");
  document["data"].erase("mixup");
  document["model"].update({{"gate", "softmax"}, {"score_norm", true}});  // as they were once
  write_text(written, document.dump(2));
  other = config;
  other.model.gate = "straight-through";
  CHECK_THAT(error_of(other, Resume::automatic),
             Catch::Contains("architecture.gate = \"softmax\", now it is \"straight-through\""));
  other = config;
  other.data.mixup = 0.5;
  CHECK_THAT(error_of(other, Resume::automatic),
             Catch::Contains("data.mixup = 0.0") && Catch::Contains("now it is 0.5"));

  train::train(config, Resume::automatic, {});
  const std::string bytes = bytes_of(folder.path() / "run", kFiles[0]);
  CHECK_THAT(error_of(config, Resume::never), Catch::Contains("finished run (2 epochs)"));
  other = config;
  other.train.learning_rate = 0.05;  // what finished is another run
  CHECK_THAT(error_of(other, Resume::automatic),
             Catch::Contains("train.learning_rate = 0.1") && Catch::Contains("now it is 0.05"));
  const TrainOutcome again = train::train(config, Resume::automatic, {});
  CHECK(again.was_finished);
  CHECK(bytes_of(folder.path() / "run", kFiles[0]) == bytes);

  Config elsewhere = short_run(folder.path() / "mine", "natural");
  fs::create_directories(elsewhere.run.dir);
  put_file(fs::path(elsewhere.run.dir) / "thesis.tex", {});
  CHECK_THAT(error_of(elsewhere, Resume::automatic), Catch::Contains("holds other files"));
  CHECK(fs::exists(fs::path(elsewhere.run.dir) / "thesis.tex"));
  elsewhere.run.dir = (folder.path() / "mine" / "thesis.tex").string();
  CHECK_THAT(error_of(elsewhere, Resume::never), Catch::Contains("must be a folder"));
}

TEST_CASE("training: a run without its state is not begun anew over its checkpoints",
          "[training]") {
  const TemporaryFolder folder;
  const Config config = short_run(folder.path() / "run", "natural");
  for (const bool is_finished : {false, true}) {
    train::train(config, Resume::automatic, is_finished ? TrainWatcher{} : stop_after(4));
    const fs::path state = train::RunFolder(config.run.dir).state();
    const std::string kept = engine::read_file(state),
                      bytes = bytes_of(folder.path() / "run", kFiles[0]);
    fs::remove(state);
    CHECK_THAT(error_of(config, Resume::automatic),
               Catch::Contains("no checkpoints/last.state.safetensors") &&
                   Catch::Contains("choose another run.dir"));
    CHECK(bytes_of(folder.path() / "run", kFiles[0]) == bytes);
    write_text(state, kept);
  }
}

TEST_CASE("training: what began with a run's weights and was stopped at once begins with them",
          "[training]") {
  const TemporaryFolder folder;
  const Config first = short_run(folder.path() / "first", "natural");
  train::train(first, Resume::never, {});
  for (const int rollbacks : {0, 1}) {
    CAPTURE(rollbacks);
    const auto run = [&](const char* name) {
      Config config = short_run(folder.path() / engine::text(name, rollbacks), "natural");
      config.train.start = first.run.dir;
      config.train.rollbacks = rollbacks;
      return config;
    };
    train::train(run("whole"), Resume::never, {});
    CHECK(train::train(run("parts"), Resume::never, stop_after(1)).epochs == 0);
    train::train(run("parts"), Resume::automatic, {});
    check_same_run(folder.path() / engine::text("whole", rollbacks),
                   folder.path() / engine::text("parts", rollbacks));
  }
}

TEST_CASE("training: a start beside the run is the same one after both were moved", "[training]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "a" / "first", "natural");
  config.train.epochs = 1;
  train::train(config, Resume::never, {});
  config.train.start = config.run.dir;
  config.run.dir = (folder.path() / "a" / "second").string();
  train::train(config, Resume::never, {});
  fs::rename(folder.path() / "a", folder.path() / "b");
  config.train.start = (folder.path() / "b" / "first").string();
  config.run.dir = (folder.path() / "b" / "second").string();
  CHECK(train::train(config, Resume::automatic, {}).was_finished);
  config.train.start.clear();
  CHECK_THAT(error_of(config, Resume::automatic), Catch::Contains("train.start = \"../first\""));
}

TEST_CASE("training: a last batch without statistics is refused at the start", "[training]") {
  const TemporaryFolder folder;
  Config config = short_run(folder.path() / "run", "natural");
  config.data.limit = 201;  // of a mixture with a batch norm on its scores
  CHECK_THAT(error_of(config, Resume::never),
             Catch::Contains("train.batch = 100 leaves a batch of a single image of 201") &&
                 Catch::Contains("choose another train.batch"));
  CHECK(!fs::exists(config.run.dir));
  config.train.batch = 1;
  CHECK_THAT(error_of(config, Resume::never), Catch::Contains("train.batch = 1 leaves"));
  config.train.batch = 100;
  config.model.name = "digits-resnet";  // has several pixels a channel in every layer
  config.train.epochs = 1;
  CHECK(train::train(config, Resume::never, {}).epochs == 1);
}

TEST_CASE("training: images that do not fit are refused at the start", "[training]") {
  const TemporaryFolder folder;
  const fs::path images = folder.path() / "images";
  for (int i = 0; i < 12; ++i) {
    data::Image image = ramp(8, 8, 3, i);
    for (size_t p = 2; p < image.pixels.size(); p += 3) image.pixels[p] = 51;  // the same blue
    put_file(images / "train" / (i % 2 ? "a" : "b") / (std::to_string(i) + ".png"), png_of(image));
  }
  Config config = short_run(folder.path() / "run", "natural");
  config.data = {.name = "imagefolder", .path = images.string()};
  config.train.batch = 4;
  config.model.normalize = "data";
  for (const char* split : {"val", "test"})
    put_file(images / split / "a/1.png", png_of(ramp(8, 8, 3)));
  CHECK_THAT(error_of(config, Resume::never),
             Catch::Contains("is 0.2 everywhere; set model.normalize=none"));
  config.model.normalize = "none";
  put_file(images / "val/a/1.png", png_of(ramp(8, 9, 3)));
  CHECK_THAT(error_of(config, Resume::never),
             Catch::Contains("for training are 8x8x3, for validation 8x9x3; set data.resize"));
  CHECK(!fs::exists(config.run.dir));
}

TEST_CASE("training: two processes cannot train in one folder", "[training]") {
  const TemporaryFolder folder;
  std::optional<FolderLock> first(folder.path());
  CHECK_THROWS_WITH(FolderLock(folder.path()), Catch::Contains("is in use by another process"));
  first.reset();
  CHECK_NOTHROW(FolderLock(folder.path()));
}

TEST_CASE("training: a damaged state is refused in one line", "[training]") {
  const TemporaryFolder folder;
  const Config config = short_run(folder.path() / "run", "natural");
  train::train(config, Resume::never, stop_after(4));
  const fs::path state = folder.path() / "run/checkpoints/last.state.safetensors";
  const engine::SafeTensors good = engine::read_safetensors(state);
  fs::resize_file(state, fs::file_size(state) / 2);
  CHECK_THAT(error_of(config, Resume::automatic), Catch::Contains("last.state.safetensors"));
  for (const auto& [key, value] : {std::pair{"epoch", "1e99"},
                                   {"epoch", "-1"},
                                   {"iteration", "9223372036854775808"},
                                   {"best", "nan"},
                                   {"threads", ""}}) {
    engine::SafeTensors broken = good;
    broken.metadata[key] = value;
    engine::write_safetensors(state, broken);
    CHECK_THAT(error_of(config, Resume::automatic),
               Catch::Contains(engine::text("'", key, "' from ")) &&
                   Catch::Contains(engine::text("got '", value, "'")));
  }
  fs::resize_file(state, 0);
  CHECK_THAT(error_of(config, Resume::automatic), Catch::Contains("last.state.safetensors"));
}

TEST_CASE("training: an exploding run stops in one line and keeps what it had", "[training]") {
  const std::string method = GENERATE("natural", "at", "advmoe");
  const TemporaryFolder folder;
  // Two good epochs, and a third that is bound to explode.
  Config config = short_run(folder.path() / "good", method);
  train::train(config, Resume::never, {});
  const std::string bytes = bytes_of(folder.path() / "good", "last.state.safetensors");
  config.train.epochs = 3;
  config.train.learning_rate = 1e30;
  fs::remove(folder.path() / "good/config.json");
  {  // the folder as a run of the exploding settings would have left it after two epochs
    Config probe = config;
    probe.run.dir = (folder.path() / "probe").string();
    error_of(probe, Resume::never);
    fs::copy(folder.path() / "probe/config.json", folder.path() / "good/config.json");
    const std::string text = engine::read_file(folder.path() / "good/config.json");
    REQUIRE(text.find("1e+30") != text.npos);
  }
  const std::string error = error_of(config, Resume::automatic);
  INFO(error);
  CHECK_THAT(error, Catch::Contains("training diverged in epoch 3") && Catch::Contains("finite") &&
                        Catch::Contains("learning_rate"));
  CHECK(bytes_of(folder.path() / "good", "last.state.safetensors") == bytes);
  CHECK_THAT(engine::read_file(folder.path() / "good/events.jsonl"), Catch::Contains("diverged"));
}

TEST_CASE("training: who watches is told", "[training]") {
  const TemporaryFolder folder;
  std::vector<int64_t> done;
  std::vector<std::string> lines;
  TrainWatcher watcher;
  watcher.batch = [&](int64_t images, int64_t total, int, const StepStatistics&) {
    CHECK(total == 512);
    done.push_back(images);
  };
  watcher.epoch = [&](const std::string& line) { lines.push_back(line); };
  train::train(short_run(folder.path() / "run", "natural"), Resume::never, watcher);
  CHECK(done == std::vector<int64_t>{100, 200, 256, 356, 456, 512});
  REQUIRE(lines.size() == 2);
  CHECK_THAT(lines[1], Catch::StartsWith("epoch 2/2") && Catch::Contains("val_clean"));
  for (const char* file : {"config.json", "metrics.csv", "events.jsonl"})
    CHECK(fs::exists(folder.path() / "run" / file));
}

}  // namespace moat::tests
