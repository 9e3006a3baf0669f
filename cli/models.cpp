#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "engine/error.h"
#include "models/zoo.h"

namespace moat::cli {

namespace {

struct ModelFacts {
  const models::ZooRow* row;
  int64_t net, router;  // parameters
  models::Classifier::Cost cost;
};

int64_t elements(const std::vector<engine::NamedTensor>& tensors) {
  int64_t total = 0;
  for (const engine::NamedTensor& tensor : tensors) total += tensor.value->size();
  return total;
}

// The sizes a row is meant for: the bundled digits, or 32 x 32 colour images of 10 classes.
models::ClassifierSettings on_its_data(models::ClassifierSettings settings) {
  if (settings.name.starts_with("digits"))
    settings.height = settings.width = 8, settings.channels = 1;
  return settings;
}

ModelFacts facts_of(const models::ZooRow& row) {
  models::Classifier model(on_its_data(row.settings), 0);
  return {&row, elements(model.expert_parameters()), elements(model.router_parameters()),
          model.cost()};
}

nlohmann::ordered_json json_of(const ModelFacts& facts) {
  const models::ClassifierSettings s = on_its_data(facts.row->settings);
  return {{"name", s.name},
          {"about", facts.row->about},
          {"experts", s.experts},
          {"ratio", s.ratio},
          {"input", {s.channels, s.height, s.width}},
          {"classes", s.classes},
          {"parameters",
           {{"net", facts.net}, {"router", facts.router}, {"total", facts.net + facts.router}}},
          {"macs",
           {{"path", facts.cost.path},
            {"router", facts.cost.router},
            {"executed", facts.cost.executed()},
            {"all_experts", facts.cost.all_experts}}}};
}

std::string table_of(const std::vector<ModelFacts>& all) {
  Table table({{"model"},
               {"experts", Align::right},
               {"parameters", Align::right},
               {"router", Align::right},
               {"MACs executed", Align::right},
               {"all experts", Align::right},
               {"about"}});
  for (const ModelFacts& facts : all)
    table.row({facts.row->settings.name, std::to_string(facts.row->settings.experts),
               std::to_string(facts.net), std::to_string(facts.router),
               count(static_cast<double>(facts.cost.executed())),
               count(static_cast<double>(facts.cost.all_experts)), facts.row->about});
  return table.str();
}

void models_command(const Globals& globals, const std::string& name) {
  std::vector<ModelFacts> all;
  if (!name.empty())
    all.push_back(facts_of(models::find_model(name)));
  else
    for (const models::ZooRow& row : models::zoo()) all.push_back(facts_of(row));
  nlohmann::ordered_json document = nlohmann::ordered_json::array();
  for (const ModelFacts& facts : all) document.push_back(json_of(facts));
  print(globals, {{"models", document}}, table_of(all));
}

}  // namespace

void add_models(CLI::App& app, Globals& globals) {
  const auto name = std::make_shared<std::string>();
  add_command(app, globals,
              {"models", "the zoo: parameters and multiply-accumulates per image",
               "moat models moe-resnet18"},
              [&globals, name] { models_command(globals, *name); })
      .add_option("name", *name, "one row of the zoo; all unless given");
}

}  // namespace moat::cli
