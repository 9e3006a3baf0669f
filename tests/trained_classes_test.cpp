#include "train/trained_classes.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "data/catalog.h"
#include "engine/io/json.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"
#include "train/trainer.h"

namespace moat::tests {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// A folder of one image of 8x8 for each class and split.
void put_images(const fs::path& root, const std::vector<std::string>& classes) {
  for (const char* split : {"train", "val", "test"})
    for (const std::string& name : classes)
      put_file(root / split / name / "1.png", png_of(ramp(8, 8, 3)));
}

}  // namespace

TEST_CASE("json: bytes that are not UTF-8 are written as U+FFFD", "[classes]") {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "a.json";
  engine::write_json(file, json{{"class", "caf\xe9"}});  // threw type_error.316
  CHECK(json::parse(text_of(file))["class"] == "caf\xef\xbf\xbd");
  CHECK(engine::json_text(json("\xff")) == "\"\xef\xbf\xbd\"");
}

TEST_CASE("classes: a model that meets others says so, and refuses those of another number",
          "[classes]") {
  const TemporaryFolder folder;
  put_images(folder.path() / "own", {"bus", "caf\xe9"});
  put_images(folder.path() / "other", {"bus", "cat"});
  train::Config config;
  config.data = {.name = "imagefolder", .path = (folder.path() / "own").string()};
  config.train.method = "natural";
  config.train.epochs = 1;
  config.train.batch = 2;
  config.run.dir = (folder.path() / "run").string();
  train::train(config, train::Resume::never, {});
  models::Metadata metadata =
      models::load_model(folder.path() / "run/checkpoints/last.safetensors").metadata;
  const auto warning_of = [&](const char* images) {
    return train::compare_trained_classes(
        metadata,
        data::load({.name = "imagefolder", .path = folder.path() / images}, data::Split::test));
  };
  CHECK(warning_of("own").empty());
  CHECK(warning_of("other") ==
        "the model was trained with class 1 = \"caf\xef\xbf\xbd\", in data set 'imagefolder' it is "
        "\"cat\"");
  put_images(folder.path() / "moved", {"ant", "bus"});
  CHECK_THROWS_WITH(warning_of("moved"),
                    Catch::Contains("class 1 = ") &&
                        Catch::Contains("it is \"bus\", another one of the model's; choose"));
  metadata[train::kClasses] = "5";
  CHECK_THROWS_WITH(warning_of("own"), Catch::Contains("must be a list of names"));
  metadata.erase(train::kClasses);  // of an older file
  CHECK(warning_of("moved").empty());
}

}  // namespace moat::tests
