#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_facts.h"
#include "cli/model_options.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "models/zoo.h"

namespace moat::cli {

namespace {

using nlohmann::ordered_json;

constexpr auto kUnwritten = engine::InitStream::Fill::none;

struct ModelsOptions {
  ModelOptions model;
  int classes = 0;  // 0: what the row is meant for
  int batch = 2;
};

std::string whole(int64_t n) { return std::to_string(n); }
std::string macs(int64_t n) { return count(static_cast<double>(n)); }
std::string mebibytes(size_t bytes) { return fixed(double(bytes) / (1 << 20), 1) + " MiB"; }

std::string page_of(const ModelFacts& f, const ActivationMemory& memory, int batch) {
  const models::ClassifierSettings& s = f.settings;
  std::string page = engine::text(s.name, ", images of ", s.height, "x", s.width, "x", s.channels,
                                  ", ", s.classes, " classes\n\n");
  Table parts({{"part"}, {"parameters", Align::right}, {"share", Align::right}});
  for (const auto& [part, n] : f.parts)
    parts.row({part, whole(n), percent(double(n) / double(f.parameters), 1) + " %"});
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

// What the batch needs follows from two images of the size that the model's row has: of a batch
// that does not fit, nothing is computed.
void require_room(const ModelsOptions& options, const models::ClassifierSettings& asked) {
  models::ClassifierSettings own = models::find_model(options.model.name).settings;
  const double larger = (double(asked.height) * asked.width) / (double(own.height) * own.width);
  models::ClassifierSettings small = asked;
  small.height = own.height;
  small.width = own.width;
  models::Classifier model(small, 0);
  const double needed = kept_for_backward(model) * larger * options.batch,
               there = static_cast<double>(engine::memory_bytes());
  engine::require(needed < there, [&] {
    constexpr double kGiB = 1 << 30;
    return engine::text("the memory of ", options.batch, " images of ", asked.height, "x",
                        asked.width, " cannot be measured here: training keeps at least ",
                        fixed(needed / kGiB, 0), " GiB of them, this machine has ",
                        fixed(there / kGiB, 0), "; give a smaller --batch or --image");
  });
}

void one_model(const Globals& globals, const ModelsOptions& options) {
  if (options.batch < 1)
    throw engine::UsageError(engine::text("--batch must be at least 1, got ", options.batch));
  models::ClassifierSettings settings = resolve(options.model);
  if (options.classes > 0) settings.classes = options.classes;
  require_room(options, settings);
  models::Classifier model(settings, 0);
  const ModelFacts facts = facts_of(model);
  const ActivationMemory memory = activation_memory(model, options.batch);
  ordered_json document = json_of(facts);
  document["about"] = models::find_model(options.model.name).about;
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
                   "moat models moe-resnet18 model.experts=4 --image 64,64 --classes 200"},
                  [&globals, o] {
                    if (o->model.name.empty())
                      all_models(globals);
                    else
                      one_model(globals, *o);
                  });
  command.add_option("name", o->model.name, "one row of the zoo; all unless given");
  command.add_option("settings", o->model.settings, "model.key=value …");
  add_image_option(command, o->model);
  command.add_option("--classes", o->classes, "classes; else what the row is meant for")
      ->check(CLI::Range(2, 1000000));
  command.add_option("--batch", o->batch, "images whose memory is measured");
}

}  // namespace moat::cli
