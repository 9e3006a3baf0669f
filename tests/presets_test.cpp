#include "train/presets.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "data/catalog.h"
#include "engine/error.h"
#include "models/zoo.h"
#include "train/studies.h"

namespace moat::train {

using nlohmann::json;

namespace {

const std::string kShort = "-short";

// As users name them behind data set and net, and where train.method and train.form stand.
const std::vector<std::string> kMethods = {
    "at",          "at-s-dense",     "at-sparse", "at-moe",          "at-auxiliary",
    "trades",      "trades-moe",     "advmoe",    "advmoe-released", "rt-er",
    "rt-er-paper", "rt-er-released", "jtdmoe",    "jtdmoe-paper",    "jtdmoe-released"};

// The longest that a name ends in.
std::string method_of(const std::string& name) {
  std::string method;
  for (const std::string& known : kMethods)
    if (name.ends_with("-" + known) && known.size() > method.size()) method = known;
  return method;
}

std::set<std::string> names() {
  std::set<std::string> all;
  for (const PresetRow& row : presets()) all.insert(row.name);
  return all;
}

// The settings alone, "section.key" to value.
json settings_of(const Config& config) {
  json document = to_json(config), flat;
  document.erase("preset");
  for (const auto& [section, keys] : document.items())
    for (const auto& [key, value] : keys.items()) flat[section + "." + key] = value;
  return flat;
}

json with(const std::string& from, const std::vector<const char*>& settings) {
  Config config = from.empty() ? Config{} : preset(from);
  for (const char* setting : settings) config = override_with(config, setting);
  return settings_of(config);
}

}  // namespace

TEST_CASE("every preset is valid, of a model and a data set that exist", "[presets]") {
  size_t in_families = 0;
  for (const PresetFamily& family : preset_families())
    for (const PresetRow& row : family.rows) {
      INFO(row.name);
      CHECK(row.name == presets()[in_families++].name);
      const Config config = preset(row.name);
      CHECK(config.preset == row.name);
      CHECK_NOTHROW(validate(config));
      CHECK(models::find_model(config.model.name).settings.name == config.model.name);
      CHECK(std::ranges::any_of(data::catalog(), [&](const data::CatalogEntry& entry) {
        return config.data.name == entry.name;
      }));
      CHECK_FALSE(row.about.empty());
      CHECK(row.about.find('\n') == std::string::npos);
    }
  CHECK(in_families == presets().size());
  CHECK(names().size() == presets().size());  // each name once
}

TEST_CASE("a preset is composed of data set, net and method", "[presets]") {
  // What the rows are that README and papers name; each is written out from the defaults or a row
  // above it.
  CHECK(settings_of(preset("cifar10-at")) ==
        with("", {"model.name=resnet18", "data.name=cifar10", "data.augment=crop-flip",
                  "train.method=at", "train.epochs=100", "train.batch=128", "train.eps=8/255",
                  "train.step=2/255", "train.steps=10", "train.learning_rate=0.1",
                  "train.weight_decay=5e-4"}));
  const auto is = [](const std::string& name, const std::string& from,
                     const std::vector<const char*>& settings) {
    INFO(name);
    CHECK(settings_of(preset(name)) == with(from, settings));
  };
  is("cifar10-at-s-dense", "cifar10-at", {"model.ratio=0.5"});
  is("cifar10-at-sparse", "cifar10-at", {"model.kept=0.5"});
  is("cifar10-at-moe", "cifar10-at", {"model.name=moe-resnet18"});
  is("cifar10-trades", "cifar10-at", {"train.method=trades"});
  is("cifar10-advmoe", "cifar10-at-moe", {"train.method=advmoe"});
  is("cifar10-advmoe-released", "cifar10-advmoe",
     {"model.name=moe-resnet18-released", "train.form=released", "train.steps=2",
      "train.step=5/255", "train.gate=through"});
  is("cifar10-wrn-advmoe", "cifar10-advmoe", {"model.name=moe-wrn-28-10"});
  is("cifar10-wrn34-trades", "cifar10-trades", {"model.name=wrn-34-10"});
  is("cifar100-preact-at", "cifar10-at", {"model.name=preact-resnet18", "data.name=cifar100"});
  is("cifar100-vgg-at-sparse", "cifar10-at-sparse", {"model.name=vgg16", "data.name=cifar100"});
  is("tiny-imagenet-advmoe-released", "cifar10-advmoe-released", {"data.name=tiny-imagenet"});
  is("imagenet-densenet-at-moe", "cifar10-at-moe",
     {"model.name=moe-densenet121-imagenet", "data.name=imagefolder", "data.resize=256",
      "data.crop=224", "data.crop_padding=0"});
  is("cifar10-narrow-at", "cifar10-at",
     {"model.name=resnet14", "data.limit=10000", "train.epochs=24", "train.steps=2",
      "train.step=5/255", "eval.validation_every=8"});
  is("cifar10-rt-er", "cifar10-at",
     {"model.name=networks-resnet18", "model.normalize=data", "data.crop_padding=2",
      "data.cutout=8", "data.cutout_fill=mean", "train.method=rt-er", "train.epochs=130",
      "train.batch=512", "train.weight_decay=0", "train.optimizer=adamw", "train.schedule=cyclic",
      "train.learning_rate=1e-4", "train.cycle=1000", "train.cycle_base=0.5"});
  is("cifar10-jtdmoe", "cifar10-rt-er", {"train.method=jtdmoe", "train.kl_experts=all"});
  is("cifar10-jtdmoe-paper", "cifar10-jtdmoe",
     {"train.kl_experts=second", "model.router=trained", "train.gate=through"});
  is("cifar10-jtdmoe-released", "cifar10-jtdmoe", {"train.epochs=200", "train.batch_norm=running"});
  is("tiny-imagenet-rt-er", "cifar10-rt-er",
     {"model.name=networks-vit-small-patch16-224", "data.name=tiny-imagenet", "data.resize=224",
      "train.epochs=10", "train.eps=2/255", "train.step=2/255"});
  is("tiny-imagenet-jtdmoe", "tiny-imagenet-rt-er",
     {"train.method=jtdmoe", "train.kl_experts=all"});
  const Config v_moe = preset("imagenet-vit-s16-at");
  CHECK(v_moe.data.augment == "resized-crop-flip");
  CHECK(v_moe.data.resize_by == "shorter-side");
  CHECK(v_moe.train.decay == "kernels");
  is("imagenet-v-moe-b32-at-auxiliary", "imagenet-vit-s16-at",
     {"model.name=v-moe-base-patch32-224", "train.attack_auxiliary=1"});
  is("digits-jtdmoe-released", "digits-jtdmoe",
     {"train.kl_experts=all", "train.batch_norm=running"});
}

TEST_CASE("there is a preset for each row of the papers", "[presets]") {
  const std::set<std::string> all = names();
  const auto exists = [&](const std::string& name) {
    INFO(name);
    CHECK(all.contains(name));
    CHECK(all.contains(name + kShort));
  };
  for (const char* method :
       {"-at", "-at-s-dense", "-at-sparse", "-at-moe", "-trades", "-trades-moe", "-advmoe"}) {
    for (const char* data : {"cifar10", "cifar100", "tiny-imagenet"})
      for (const char* net : {"", "-wrn", "-vgg", "-densenet"})
        exists(std::string(data) + net + method);
    for (const char* data : {"cifar10", "cifar100"})
      for (const char* net : {"-preact", "-wrn34"}) exists(std::string(data) + net + method);
    for (const char* net : {"", "-wrn", "-densenet"})
      exists(std::string("imagenet") + net + method);
  }
  for (const char* data : {"cifar10", "cifar100", "tiny-imagenet"})
    for (const char* net : {"", "-wrn", "-vgg", "-densenet"})
      exists(std::string(data) + net + "-advmoe-released");
  exists("imagenet-advmoe-released");
  for (const char* data : {"cifar10", "tiny-imagenet"})
    for (const char* method : {"-rt-er", "-jtdmoe"})
      for (const char* form : {"", "-paper", "-released"})
        exists(std::string(data) + method + form);
  for (const char* size : {"s16", "b32"}) {
    exists(std::string("imagenet-vit-") + size + "-at");
    exists(std::string("imagenet-vit-deep-") + size + "-at");
    exists(std::string("imagenet-v-moe-") + size + "-at");
    exists(std::string("imagenet-v-moe-") + size + "-at-auxiliary");
  }
}

TEST_CASE("AdvMoE differs from TRADES of the mixture in nothing but its levels", "[presets]") {
  int found = 0;
  for (const std::string& name : names()) {
    const std::string method = "trades-moe";
    const size_t at = name.find(method);
    if (at == name.npos) continue;
    INFO(name);
    ++found;
    Config advmoe = preset(std::string(name).replace(at, method.size(), "advmoe"));
    advmoe.train.method = "trades";
    CHECK(settings_of(preset(name)) == settings_of(advmoe));
  }
  CHECK(found > 30);
}

TEST_CASE("a short run differs in length and learning rate alone", "[presets]") {
  const std::set<std::string> may_differ = {"train.epochs",
                                            "train.batch",
                                            "data.limit",
                                            "eval.validation_every",
                                            "eval.validation_limit",
                                            "train.learning_rate",
                                            "train.warmup_epochs",
                                            "train.cycle"};
  int found = 0;
  for (const std::string& name : names()) {
    if (!name.ends_with(kShort)) continue;
    INFO(name);
    ++found;
    const Config less = preset(name);
    CHECK(less.train.epochs <= 30);
    CHECK(less.train.batch == 512);
    const json a = settings_of(less);
    const json b = settings_of(preset(name.substr(0, name.size() - kShort.size())));
    for (const auto& [key, value] : a.items()) {
      INFO(key);
      CHECK((value == b[key] || may_differ.contains(key)));
    }
  }
  CHECK(found > 100);
}

TEST_CASE("each method has a form on the digits", "[presets]") {
  const std::set<std::string> all = names();
  for (const std::string& name : all) {
    if (name.starts_with("digits-") || name.starts_with("demo") || name.ends_with(kShort)) continue;
    INFO(name);
    const std::string method = method_of(name);
    REQUIRE_FALSE(method.empty());
    // Of a transformer its own; every net of the others is one there.
    const std::string net = name.find("-vit-") != name.npos     ? "vit-"
                            : name.find("-v-moe-") != name.npos ? "v-moe-"
                                                                : "";
    const std::string form = "digits-" + net + method;
    INFO(form);
    REQUIRE(all.contains(form));
    const Config full = preset(name), digits = preset(form);
    CHECK(digits.data.name == "digits");
    CHECK(digits.train.method == full.train.method);
    CHECK(digits.train.form == full.train.form);
    CHECK(digits.model.router == full.model.router);
    CHECK(digits.model.kept == full.model.kept);
    CHECK(digits.model.ratio == full.model.ratio);
    CHECK(digits.train.attack_auxiliary == full.train.attack_auxiliary);
  }
}

TEST_CASE("every study is of presets that exist, each start in a row before", "[presets]") {
  std::set<std::string> names;
  for (const Study& study : studies()) {
    INFO(study.name);
    CHECK(names.insert(study.name).second);
    std::set<std::string> rows;
    for (const StudyRow& row : study.rows) {
      INFO(row.name);
      CHECK((row.start.empty() || rows.contains(row.start)));
      CHECK(rows.insert(row.name).second);
      const Config config = config_of(row, 7, "out", {"data.path=somewhere"});
      CHECK(config.run.seed == 7);
      CHECK(config.run.dir == "out/" + row.name + " seed 7");
      CHECK(config.train.start == (row.start.empty() ? "" : "out/" + row.start + " seed 7"));
    }
  }
  CHECK(names.contains("cifar10-short"));
}

TEST_CASE("a study refuses settings that it chooses itself", "[presets]") {
  const auto refused = [](const char* study, const std::string& setting) {
    try {
      require_free(find_study(study), {"train.epochs=1", setting});
    } catch (const engine::UsageError& error) {
      CHECK_THAT(error.what(), Catch::EndsWith("itself; leave out " + setting));
      return true;
    }
    return false;
  };
  for (const Study& study : studies())
    for (const char* setting :
         {"run.seed=3", "run.dir=x", "eval.dir=x", "eval.protocol=pgd-10@1", "train.method=at"}) {
      INFO(study.name << " " << setting);
      CHECK(refused(study.name.c_str(), setting));
    }
  for (const char* setting : {"train.update=all", "train.start=x"})
    CHECK(refused("pilot", setting));
  for (const char* setting : {"model.gate=softmax", "train.gate=blocked"})
    CHECK(refused("gates", setting));
  for (const char* setting : {"model.name=digits-resnet", "model.ratio=1"})
    CHECK(refused("methods", setting));
  for (const char* setting : {"train.start=x", "data.name=imagefolder", "eval.limit=5",
                              "train.batch=64", "train.eps=0.1", "run.device=cpu"})
    CHECK_FALSE(refused("methods", setting));
}

TEST_CASE("an unknown preset is answered in a short line", "[presets]") {
  const auto message = [](const std::string& name) {
    try {
      preset(name);
    } catch (const engine::UsageError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  using Catch::Matchers::Contains;
  CHECK_THAT(message("digits-admvoe"), Contains("; did you mean digits-advmoe?"));
  CHECK_THAT(message("cifar10-wrn-advmo"), Contains("did you mean cifar10-wrn-advmoe"));
  for (const char* name : {"xyzzy", "cifar10", "", "cifar10-wrn-advmo"}) {
    CHECK_THAT(message(name), Contains("the preset must be one of the ") &&
                                  Contains("that moat train --presets lists"));
    CHECK(message(name).size() < 200);
  }
}

}  // namespace moat::train
