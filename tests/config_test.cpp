#include "train/config.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/names.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"
#include "train/field.h"
#include "train/model_settings.h"
#include "train/numbers.h"

namespace moat::train {

using Catch::Matchers::Contains;
using engine::edit_distance;
using engine::nearest;
using engine::suggestion;
using engine::UsageError;
using nlohmann::json;
using tests::TemporaryFolder;
using tests::write_text;

namespace {

// The message of the UsageError that `action` must throw; it is one line.
template <class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const UsageError& e) {
    const std::string message = e.what();
    CHECK(message.find('\n') == message.npos);
    return message;
  }
  FAIL("no UsageError");
  return "";
}
std::string override_message(const std::string& assignment) {
  return message_of([&] { override_with(Config{}, assignment); });
}
std::string document_message(const std::string& document) {
  return message_of([&] { overlay(Config{}, json::parse(document), "run.json"); });
}
Config with(Config config, std::initializer_list<const char*> assignments) {
  for (const char* assignment : assignments) config = override_with(config, assignment);
  return config;
}

}  // namespace

TEST_CASE("numbers are written plainly or as a fraction", "[config]") {
  CHECK(parse_number("8/255", "x") == 8.0 / 255);
  CHECK(parse_number("0.031", "x") == 0.031);
  CHECK(parse_number("1e-2", "x") == 1e-2);
  CHECK(parse_number("-3", "x") == -3);
  for (const char* bad : {"", "/", "8/", "/255", "8/0", "1/2/3", "nan", "inf", "1e999", "0x10",
                          "8 ", " 8", "8,5", "1e-2x", "8//255", "1/1e-999"}) {
    INFO(bad);
    CHECK_THAT(message_of([&] { parse_number(bad, "--eps"); }), Contains("--eps must be a number"));
  }
}

TEST_CASE("a radius of 8 is most likely 8/255", "[config]") {
  CHECK(parse_eps("8/255", "--eps") == 8.0 / 255);
  CHECK(parse_eps("3", "--eps", "l2") == 3);
  CHECK_THAT(message_of([] { parse_eps("8", "--eps"); }),
             Contains("got 8; did you mean 8/255 = 0.0314?"));
  CHECK_THAT(message_of([] { parse_eps("8", "--eps", "l2"); }), Contains("did you mean 8/255"));
  CHECK_THAT(message_of([] { parse_eps("-0.1", "--eps"); }), !Contains("did you mean"));
  CHECK_THAT(message_of([] { require_eps(std::nan(""), "eps"); }), Contains("got nan"));
}

TEST_CASE("a radius is printed both ways", "[config]") {
  CHECK(print_eps(8.0 / 255) == "0.0314 (8/255)");
  CHECK(print_eps(0.1) == "0.1 (25.5/255)");
  CHECK(print_eps(0) == "0 (0/255)");
}

TEST_CASE("edit distance counts a swap of neighbours once", "[config]") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("epohcs", "epochs") == 1);
  CHECK(edit_distance("ca", "abc") == 3);
}

TEST_CASE("suggestions are near, in order and few", "[config]") {
  const std::vector<std::string> known{"demo-dense", "demo-moe", "demo-advmoe", "cifar10-at"};
  CHECK(nearest("demo-mo", known).front() == "demo-moe");
  CHECK(nearest("cifar-10-at", known) == std::vector<std::string>{"cifar10-at"});
  CHECK(nearest("xyzzy", known).empty());
  CHECK(nearest("", known).empty());
  CHECK(nearest(std::string(100000, 'a'), known).empty());
  CHECK(suggestion("demo-advmo", known) == "; did you mean demo-advmoe?");
  CHECK(nearest("demo", {"demo1", "demo2", "demo3", "demo4"}).size() == 3);
}

TEST_CASE("every setting is read, written and described", "[config]") {
  const std::string description = describe_config();
  std::vector<std::string> names;
  for (const Field& field : fields()) {
    INFO(field.name());
    CHECK(std::count(names.begin(), names.end(), field.name()) == 0);
    names.push_back(field.name());
    CHECK_FALSE(field.meaning.empty());
    CHECK_THAT(description, Contains(field.name() + " = "));

    // Its slot is its own: setting it changes this entry of the document and no other.
    Config config;
    const json before = to_json(config);
    const json other = field.rule.kind == Rule::choice ? json(field.rule.choices.back())
                       : type_of(field) == "text"      ? json("elsewhere")
                       : type_of(field) == "true or false"
                           ? json(!before[field.section][field.key].get<bool>())
                       : type_of(field) == "number" ? json(0.5)
                                                    : json(1);
    assign(field, config, other, "");
    json expected = before;
    expected[field.section][field.key] = other;
    CHECK(to_json(config) == expected);
  }
}

TEST_CASE("a written configuration reads back as itself", "[config]") {
  for (const PresetRow& row : presets()) {
    const Config config =
        with(preset(row.name), {"run.seed=18446744073709551615", "run.dir=a b/ü"});
    const json document = json::parse(to_json(config).dump());
    CHECK(to_json(overlay(Config{}, document, "config.json")) == document);
    json of_a_run = document;
    of_a_run.update({{"tool", {{"git", "abc"}}},
                     {"machine", {{"cpu", "a CPU"}}},
                     {"architecture", json::object()},
                     {"parameters", 1234},
                     {"macs", {{"executed", 5000}}}});
    CHECK(to_json(overlay(Config{}, of_a_run, "config.json")) == document);
    CHECK(document["preset"] == row.name);
  }
}

TEST_CASE("methods and their settings are refused where the model has nothing for them",
          "[config]") {
  const auto refused = [](std::initializer_list<const char*> settings) {
    return message_of([&] { validate(with(Config{}, settings)); });
  };
  for (const char* method : {"train.method=rt-er", "train.method=jtdmoe"}) {
    CHECK_THAT(refused({method}), Contains("needs a mixture of experts for images") &&
                                      Contains("digits-resnet is none"));
    CHECK_THAT(refused({method, "model.name=digits-v-moe"}), Contains("digits-v-moe is none"));
    CHECK_NOTHROW(validate(with(Config{}, {method, "model.name=digits-networks-resnet"})));
    CHECK_NOTHROW(validate(with(Config{}, {method, "model.name=digits-moe-resnet"})));
  }
  CHECK_THAT(refused({"train.method=advmoe", "model.name=digits-networks-resnet"}),
             Contains("no router to train"));
  CHECK_NOTHROW(validate(with(Config{}, {"train.method=advmoe", "model.router=trained",
                                         "model.name=digits-networks-resnet"})));
  CHECK_THAT(refused({"train.method=advmoe", "model.router=fixed", "model.name=digits-moe-resnet"}),
             Contains("no router to train"));
  CHECK_THAT(refused({"model.router=fixed"}), Contains("has none"));
  CHECK_THAT(refused({"train.batch_norm=running", "model.name=digits-vit"}),
             Contains("needs a model with batch norms"));
  for (const char* model : {"model.name=digits-resnet", "model.name=digits-vit"})
    CHECK_THAT(refused({"train.attack_auxiliary=1", model}), Contains("needs a v-moe"));
  CHECK_THAT(refused({"train.attack_auxiliary=1", "model.name=digits-v-moe", "model.importance=0"}),
             Contains("no auxiliary losses to attack"));
  CHECK_NOTHROW(validate(with(Config{}, {"train.attack_auxiliary=1", "model.name=digits-v-moe"})));
}

TEST_CASE("settings of a part that the model lacks are refused", "[config]") {
  const auto refused = [](const std::string& name, const std::string& setting) {
    return message_of([&] {
      validate(with(Config{}, {("model.name=" + name).c_str(), setting.c_str()}));
    });
  };
  for (const char* setting : {"model.gate=softmax", "model.score_norm=true"})
    CHECK_THAT(refused("digits-resnet", setting), Contains("digits-resnet has none"));
  CHECK_THAT(refused("digits-resnet", "model.router_pool=2"), Contains("is none; leave it at 0"));
  CHECK_THAT(refused("digits-networks-resnet", "model.router_pool=2"), Contains("one linear map"));
  for (const char* setting : {"model.noise=2", "model.load=1", "model.priority=best-gate"})
    CHECK_THAT(refused("digits-resnet", setting), Contains("need a v-moe"));
  for (const char* setting : {"model.alpha=0.5", "model.average=probabilities"})
    CHECK_THAT(refused("digits-moe-resnet", setting), Contains("train.method=jtdmoe makes"));
  Config weighted = with(Config{}, {"model.name=digits-moe-resnet", "model.active=2"});
  CHECK_NOTHROW(validate(weighted));
  CHECK_THAT(message_of([&] { validate(with(weighted, {"model.gate=softmax"})); }),
             Contains("is of a hard gate"));
}

TEST_CASE("gate and score_norm: as the row says, or as told", "[config]") {
  const auto settings = [](std::initializer_list<const char*> assignments) {
    return zoo_settings(with(Config{}, assignments).model);
  };
  using models::GateForm;
  const char *released = "model.name=moe-resnet18-released",
             *linear = "model.name=networks-resnet18";
  CHECK(settings({released}).gate == GateForm::raw);
  CHECK(settings({released, "model.gate=softmax"}).gate == GateForm::softmax);
  CHECK_FALSE(settings({released}).router.score_norm);
  CHECK(settings({released, "model.score_norm=true"}).router.score_norm);
  CHECK_FALSE(settings({linear}).router.score_norm);
  CHECK(settings({linear, "model.score_norm=true"}).router.score_norm);
  const char* own = "model.name=moe-resnet18";
  CHECK(settings({own}).router.score_norm);
  CHECK_FALSE(settings({own, "model.score_norm=false"}).router.score_norm);
  CHECK(settings({own, "model.gate=straight-through"}).gate == GateForm::raw);
  // What runs wrote when score_norm was a flag; a person's file means what it says.
  const json old = {
      {"model", {{"name", "moe-resnet18-released"}, {"gate", "softmax"}, {"score_norm", true}}}};
  json of_a_run = old;
  of_a_run["architecture"] = json::object();
  CHECK(overlay({}, of_a_run, "f").model.gate == "zoo");
  CHECK(overlay({}, of_a_run, "f").model.score_norm == "zoo");
  CHECK(overlay({}, old, "f").model.gate == "softmax");
  CHECK(overlay({}, old, "f").model.score_norm == "true");
}

TEST_CASE("presets say what they mean", "[config]") {
  CHECK_NOTHROW(validate(Config{}));
  const Config cifar = preset("cifar10-advmoe");
  CHECK(cifar.model.name == "moe-resnet18");
  CHECK(cifar.data.name == "cifar10");
  CHECK(cifar.data.augment == "crop-flip");
  CHECK(cifar.train.method == "advmoe");
  CHECK(cifar.train.eps == 8.0 / 255);
  CHECK(cifar.train.step == 2.0 / 255);
  CHECK(cifar.train.epochs == 100);
}

TEST_CASE("a setting on the command line is read as its type", "[config]") {
  const Config config =
      with(Config{}, {"train.eps=8/255", "train.epochs=3", "model.score_norm=false",
                      "run.dir=runs/a=b", "train.learning_rate=1e-2", "data.path="});
  CHECK(config.train.eps == 8.0 / 255);
  CHECK(config.train.epochs == 3);
  CHECK(config.model.score_norm == "false");
  CHECK(config.run.dir == "runs/a=b");
  CHECK(config.train.learning_rate == 1e-2);
  CHECK(config.data.path.empty());
}

TEST_CASE("a bad setting on the command line says what must hold", "[config]") {
  const auto [assignment, expected] = GENERATE(table<std::string, std::string>({
      {"train.epochs", "section.key=value, got 'train.epochs'"},
      {"", "section.key=value"},
      {"=3", "must be written section.key=value, got '=3'"},
      {"train.epoch=3", "there is no setting 'train.epoch'; did you mean train.epochs?"},
      {"epochs=3", "did you mean train.epochs or train.warmup_epochs?"},
      {"trian.epochs=3", "did you mean train.epochs?"},
      {"model.weight_decay=0", "did you mean train.weight_decay?"},
      {"train.epochs=0", "train.epochs must be a whole number from 1 to 1000000, got 0"},
      {"train.epochs=-1", "got -1"},
      {"train.epochs=2.5", "whole number"},
      {"train.epochs=99999999999999999999", "whole number"},
      {"train.epochs=", "got \"\""},
      {"train.batch=0", "train.batch must be a whole number from 1 to 65536, got 0"},
      {"model.ratio=1.5", "model.ratio must be a number from 0 to 1, got \"1.5\""},
      {"model.ratio=-0.5", "model.ratio must be"},
      {"model.ratio=nan", "model.ratio must be a number"},
      {"model.experts=65", "model.experts must be a whole number from 0 to 64, got 65"},
      {"model.score_norm=yes", "model.score_norm must be zoo, true or false, got \"yes\""},
      {"train.method=advmeo",
       "natural, at, trades, mart, advmoe, rt-er or jtdmoe, got \"advmeo\"; did you mean advmoe?"},
      {"train.eps=8", "train.eps must be from 0 to 1 in linf, to 5 in l2"},
      {"train.eps=8", "did you mean 8/255 = 0.0314?"},
      {"train.eps=-0.1", "train.eps must be from 0"},
      {"train.step=nan", "train.step must be a number"},
      {"train.learning_rate=0", "above 0"},
      {"train.momentum=1", "below 1"},
      {"train.optimizer=adam", "sgd or adamw, got \"adam\"; did you mean adamw?"},
      {"train.beta2=1", "train.beta2 must be a number from 0, below 1"},
      {"train.adam_eps=0", "train.adam_eps must be a number above 0"},
      {"train.schedule=triangular", "cosine, linear, step, constant or cyclic"},
      {"train.cycle=0", "train.cycle must be a whole number from 1"},
      {"train.cycle_base=2", "train.cycle_base must be a number from 0 to 1"},
      {"train.ema=1", "train.ema must be"},
      {"train.awp=-0.01", "train.awp must be"},
      {"train.patience=-1", "train.patience must be"},
      {"train.rollbacks=31", "from 0 to 30"},
      {"run.seed=-1", "run.seed must be a whole number, got \"-1\""},
      {"data.cutout=-1", "data.cutout must be a whole number from 0 to 4096, got -1"},
      {"data.mixup=-0.2", "data.mixup must be a number from 0 to 1000"},
      {"data.cutmix=nan", "data.cutmix must be a number"},
      {"data.cutmx=1", "did you mean data.cutmix?"},
      {"run.dir=a\nb", "run.dir must be text"},
      {"run.dir=\xff", "run.dir must be text"},
      {"data.path=p_\xe9", "data.path must be text in UTF-8"},
      {"run.precision=fp16", "fp32, tf32 or bf16"},
      {"model.name=resnet19", "did you mean resnet14, resnet18 or resnet20"},
  }));
  INFO(assignment);
  CHECK_THAT(override_message(assignment), Contains(expected));
}

TEST_CASE("a document is laid over the base, or over the preset it names", "[config]") {
  Config base;
  base.train.batch = 32;
  const auto document =
      json::parse(R"({"train": {"eps": "4/255", "epochs": 7}, "tool": {"x": 1}})");
  const Config config = overlay(base, document, "run.json");
  CHECK(config.train.eps == 4.0 / 255);
  CHECK(config.train.epochs == 7);
  CHECK(config.train.batch == 32);
  const auto started =
      overlay(base, json::parse(R"({"preset": "cifar10-at", "train": {"epochs": 7}})"), "run.json");
  CHECK(started.data.name == "cifar10");
  CHECK(started.train.epochs == 7);
  CHECK(started.preset == "cifar10-at");
}

TEST_CASE("a bad document says where and what", "[config]") {
  const auto [document, expected] = GENERATE(table<std::string, std::string>({
      {R"([])", "run.json: must be a JSON object of sections: model, data, train, eval or run"},
      {R"("x")", "must be a JSON object"},
      {R"({"trian": {}})", "run.json: there is no section 'trian'"},
      {R"({"trian": {}})", "did you mean train?"},
      {R"({"train": []})", "run.json: train must be an object"},
      {R"({"train": {"epoch": 3}})", "run.json: there is no setting 'train.epoch'; did you mean"},
      {R"({"train": {"epochs": "3"}})", "must be a whole number from 1 to 1000000, got \"3\""},
      {R"({"train": {"epochs": 3.0}})", "whole number"},
      {R"({"train": {"epochs": null}})", "got null"},
      {R"({"train": {"epochs": [1, 2]}})", "got [1,2]"},
      {R"({"train": {"epochs": 1e300}})", "whole number"},
      {R"({"train": {"epochs": 18446744073709551615}})", "whole number"},
      {R"({"train": {"eps": 8}})", "did you mean 8/255 = 0.0314?"},
      {R"({"train": {"eps": true}})", "train.eps must be a number"},
      {R"({"train": {"eps": "eight"}})", "run.json: train.eps must be a number"},
      {R"({"model": {"score_norm": 1}})", "true or false, got 1"},
      {R"({"model": {"name": 3}})", "model.name must be"},
      {R"({"preset": 3})", "preset must be the name"},
      {R"({"preset": "demo-mo"})", "did you mean"},
  }));
  INFO(document);
  CHECK_THAT(document_message(document), Contains(expected));
}

TEST_CASE("a long bad value is cut in the message", "[config]") {
  CHECK(override_message("train.epochs=" + std::string(100000, 'x')).size() < 300);
}

TEST_CASE("configuration files that are none are refused", "[config]") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "run.json";
  const auto message = [&] { return message_of([&] { read_config(Config{}, file); }); };
  CHECK_THAT(message(), Contains("run.json: must be a JSON file"));
  for (const char* broken : {"", "{", "{\"train\": {\"epochs\": 3}", "{\"train\": nan}", "{}}",
                             "{\"a\": \"\xff\"}", "{\"train\":\n{\n,\n}}"}) {
    write_text(file, broken);
    CHECK_THAT(message(), Contains("run.json: must be a JSON document"));
  }
  write_text(file, std::string(100000, '['));
  CHECK_THAT(message(), Contains("must not nest more than 64 levels"));
  write_text(file, R"({"train": {"epochs": 3, "epochs": 4}})");
  CHECK_THAT(message(), Contains(R"(the key "epochs" stands there twice)"));
  write_text(file, std::string((1 << 20) + 1, ' '));
  CHECK_THAT(message(), Contains("at most 1048576 bytes"));
  write_text(file, R"({"train": {"epochs": 3}, "eval": {"limit": 4}})");
  CHECK(read_config(Config{}, file).train.epochs == 3);
  CHECK_THAT(message_of([&] { read_config(Config{}, folder.path()); }), Contains("must be a JSON"));
}

TEST_CASE("what cutout leaves is a pixel value or the mean", "[config]") {
  const auto fill = [](const char* text) {
    DataSettings data;
    data.cutout_fill = text;
    return cutout_fill(data);
  };
  CHECK(fill("0") == 0);
  CHECK(fill("127/255") == 127.0 / 255);
  CHECK_FALSE(fill("mean").has_value());
  CHECK(cutout_fill(DataSettings{}) == 0);
}

TEST_CASE("values and combinations are checked together at the end", "[config]") {
  const auto message = [](std::initializer_list<const char*> assignments) {
    return message_of([&] { validate(with(Config{}, assignments)); });
  };
  CHECK_NOTHROW(validate(with(Config{}, {"train.eps=3", "train.norm=l2"})));
  CHECK_THAT(message({"train.eps=3"}), Contains("did you mean 3/255"));
  CHECK_THAT(message({"train.eps=0"}), Contains("train.eps must be above 0"));
  CHECK_NOTHROW(validate(with(Config{}, {"train.eps=0", "train.method=natural"})));
  CHECK_THAT(message({"train.warmup_epochs=20"}), Contains("below train.epochs = 20"));
  CHECK_THAT(message({"train.method=advmoe"}), Contains("needs a mixture of experts"));
  CHECK_THAT(message({"train.awp=0.01", "train.method=natural"}),
             Contains("train.method=at, trades or mart, got natural"));
  CHECK_NOTHROW(validate(with(Config{}, {"train.awp=0.01", "train.method=mart"})));
  for (const char* refused : {"model.name=digits-resnet", "train.method=advmoe",
                              "model.router=fixed", "train.method=rt-er"})
    CHECK_THAT(
        message({"model.name=digits-moe-resnet", "train.update=router", refused}),
        Catch::StartsWith("train.update=router freezes the other part of a mixture whose router "
                          "learns"));
  CHECK_NOTHROW(validate(with(Config{}, {"model.name=digits-moe-resnet", "train.update=experts"})));
  CHECK_THAT(message({"model.experts=4"}), Contains("digits-resnet is dense"));
  CHECK_NOTHROW(validate(with(Config{}, {"model.name=digits-moe-resnet", "model.experts=4"})));
  CHECK_NOTHROW(validate(with(Config{}, {"data.mixup=0.2", "data.cutmix=1", "data.cutout=8"})));
  CHECK_NOTHROW(validate(with(Config{}, {"train.batch=1"})));
  for (const char* mixing : {"data.mixup=1", "data.cutmix=1"})
    CHECK_THAT(message({mixing, "train.batch=1"}), Contains("train.batch must be above 1, got 1"));
  CHECK_THAT(message({"data.cutout_fill=grey"}),
             Contains("data.cutout_fill (or mean) must be a number") && Contains("got 'grey'"));
  CHECK_THAT(message({"data.cutout_fill=1.5"}), Contains("must be from 0 to 1, got 1.5"));
  CHECK_THAT(message({"data.cutout_fill="}), Contains("got ''"));

  Config config;
  config.train.learning_rate = std::numeric_limits<double>::quiet_NaN();
  CHECK_THAT(message_of([&] { validate(config); }), Contains("train.learning_rate must be"));
  config = {};
  config.train.batch = 0;
  CHECK_THAT(message_of([&] { validate(config); }), Contains("train.batch must be"));
}

}  // namespace moat::train
