#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_facts.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "engine/error.h"
#include "models/zoo.h"
#include "train/model_settings.h"

namespace moat::cli {

namespace {

using nlohmann::ordered_json;

constexpr auto kUnwritten = engine::InitStream::Fill::none;

struct ModelsOptions {
  std::string name;
  std::vector<std::string> settings;  // model.key=value
  int side = 0, classes = 0;          // 0: what the row is meant for
  int batch = 2;
};

models::ClassifierSettings settings_of(const ModelsOptions& o) {
  train::Config config;
  config.model.name = models::find_model(o.name).settings.name;
  for (const std::string& setting : o.settings) config = train::override_with(config, setting);
  models::ClassifierSettings s = train::zoo_settings(config.model);
  if (o.side > 0) s.height = s.width = o.side;
  if (o.classes > 0) s.classes = o.classes;
  return s;
}

std::string whole(int64_t n) { return std::to_string(n); }
std::string macs(int64_t n) { return count(static_cast<double>(n)); }
std::string mebibytes(size_t bytes) { return fixed(double(bytes) / (1 << 20), 1) + " MiB"; }

std::string page_of(const ModelFacts& f, const ActivationMemory& memory, int batch) {
  const models::ClassifierSettings& s = f.settings;
  std::string page = engine::text(s.name, ", images of ", s.height, "x", s.width, "x", s.channels,
                                  ", ", s.classes, " classes\n\n");
  Table parts({{"part"}, {"parameters", Align::right}, {"share", Align::right}});
  for (const auto& [part, n] : f.parts)
    parts.row({part, whole(n), percent(double(n) / double(f.parameters), 1)});
  parts.row({"total", whole(f.parameters), ""});
  Table costs({{"multiply-accumulates of an image"}, {"", Align::right}});
  costs.row({"dense net of full width", macs(f.dense)});
  costs.row({"path of one image", macs(f.cost.path)});
  costs.row({f.router_pool > 1 ? engine::text("router, on means of ", f.router_pool, "x",
                                              f.router_pool, " pixels")
                               : "router",
             macs(f.cost.router)});
  costs.row({"executed: path and router", macs(f.cost.executed())});
  costs.row({"with every expert computed and masked", macs(f.cost.all_experts)});
  Table use(
      {{engine::text("memory of a batch of ", batch, " beyond the weights")}, {"", Align::right}});
  use.row({"forward, as in an evaluation", mebibytes(memory.forward)});
  use.row({"forward and backward, as in training", mebibytes(memory.training)});
  return page + parts.str() + "\n" + costs.str() + "\n" + use.str();
}

void one_model(const Globals& globals, const ModelsOptions& options) {
  engine::require(options.batch >= 1, "--batch must be at least 1");
  models::Classifier model(settings_of(options), 0);
  const ModelFacts facts = facts_of(model);
  const ActivationMemory memory = activation_memory(model, options.batch);
  ordered_json document = json_of(facts);
  document["about"] = models::find_model(options.name).about;
  document["memory"] = {{"batch", options.batch},
                        {"forward_bytes", memory.forward},
                        {"training_bytes", memory.training}};
  print(globals, {{"models", ordered_json::array({document})}},
        page_of(facts, memory, options.batch));
}

void all_models(const Globals& globals) {
  Table table({{"model"},
               {"experts", Align::right},
               {"parameters", Align::right},
               {"MACs executed", Align::right},
               {"all experts", Align::right},
               {"dense", Align::right},
               {"about"}});
  ordered_json document = ordered_json::array();
  for (const models::ZooRow& row : models::zoo()) {
    models::Classifier model(row.settings, engine::InitStream{.fill = kUnwritten});
    const ModelFacts f = facts_of(model);
    document.push_back(json_of(f));
    document.back()["about"] = row.about;
    table.row({row.settings.name, whole(f.experts), macs(f.parameters), macs(f.cost.executed()),
               macs(f.cost.all_experts), macs(f.dense), row.about});
  }
  print(globals, {{"models", document}}, table.str());
}

}  // namespace

void add_models(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<ModelsOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"models", "the zoo; of one model its parameters, cost and memory by part",
                   "moat models moe-resnet18 model.experts=4 --side 64 --classes 200"},
                  [&globals, o] {
                    if (o->name.empty())
                      all_models(globals);
                    else
                      one_model(globals, *o);
                  });
  command.add_option("name", o->name, "one row of the zoo; all unless given");
  command.add_option("settings", o->settings, "model.key=value …");
  command.add_option("--side", o->side, "pixels a side; else what the row is meant for")
      ->check(CLI::Range(1, 4096));
  command.add_option("--classes", o->classes, "classes; else what the row is meant for")
      ->check(CLI::Range(2, 1000000));
  command.add_option("--batch", o->batch, "images whose memory is measured");
}

}  // namespace moat::cli
