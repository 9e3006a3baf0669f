#include "train/config.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "engine/error.h"
#include "engine/io/json.h"
#include "engine/names.h"
#include "train/field.h"
#include "train/model_settings.h"
#include "train/numbers.h"

namespace moat::train {

using engine::text;
using engine::UsageError;
using nlohmann::json;

namespace {

constexpr uintmax_t kLargestFile = 1 << 20;  // bytes; a configuration has two thousand

std::vector<std::string> section_names() {
  std::vector<std::string> names;
  for (const Field& field : fields())
    if (names.empty() || names.back() != field.section) names.push_back(field.section);
  return names;
}

// What a run's config.json, or a dry run, says besides the settings (resolved_json in trainer.cpp).
bool is_of_a_run(const std::string& section) {
  return section == "tool" || section == "machine" || section == "architecture" ||
         section == "parameters" || section == "macs" || section == "estimate";
}

// The settings of a model as runs wrote them when score_norm was a flag: what the defaults were
// meant what zoo says now.
json with_zoo(json model) {
  model["score_norm"] = model["score_norm"] == true ? "zoo" : "false";
  if (model.contains("gate") && model["gate"] == "softmax") model["gate"] = "zoo";
  return model;
}

// What other programs call a setting.
std::string usual_name(const std::string& key) {
  static const std::map<std::string, std::string> kNames = {
      {"lr", "train.learning_rate"}, {"wd", "train.weight_decay"},   {"bs", "train.batch"},
      {"batch_size", "train.batch"}, {"num_epochs", "train.epochs"}, {"epsilon", "train.eps"},
      {"dataset", "data.name"},      {"arch", "model.name"},         {"seed", "run.seed"}};
  const auto found = kNames.find(key);
  return found == kNames.end() ? "" : found->second;
}

// `name` is "section.key".
const Field& find_field(const std::string& name, const std::string& origin) {
  std::vector<std::string> names, same_key;
  const std::string key = name.substr(name.find('.') + 1);
  for (const Field& field : fields()) {
    if (field.name() == name) return field;
    names.push_back(field.name());
    if (field.key == key) same_key.push_back(field.name());
  }
  const std::string usual = usual_name(key);
  std::string hint =
      usual.empty() ? engine::suggestion(name, names) : "; did you mean " + usual + "?";
  if (hint.empty() && !same_key.empty()) hint = "; did you mean " + engine::listed(same_key) + "?";
  throw UsageError(origin + "there is no setting '" + name + "'" + hint);
}

void must(bool holds, const std::string& message) {
  if (!holds) throw UsageError(message);
}

// What a method, and a setting of it, needs of the model.
// The methods whose steps update router and experts together (joint_step.h) from one batch.
bool is_joint(const std::string& method) {
  return method == "natural" || method == "at" || method == "trades" || method == "mart";
}

void check_method(const TrainSettings& train, const models::ClassifierSettings& model) {
  must(train.method != "advmoe" || (model.experts > 1 && model.router.trained),
       "train.method=advmoe needs a mixture of experts, and " + model.name +
           " has no router to train; take the moe form of the model or train.method=trades");
  must((train.method != "rt-er" && train.method != "jtdmoe") || model.experts > 1,
       "train.method=" + train.method + " needs a mixture of experts for images, and " +
           model.name + " is none; take networks-resnet18 or another of moat models");
  must(train.update == "all" ||
           (is_joint(train.method) && model.experts > 1 && model.router.trained),
       "train.update=" + train.update +
           " freezes the other part of a mixture whose router learns, " +
           "with train.method=natural, at, trades or mart; got " + model.name +
           " and train.method=" + train.method);
  must(train.batch_norm == "batch" || model.family != models::Family::vit,
       "train.batch_norm=running needs a model with batch norms, and " + model.name +
           " has none; train.batch_norm=batch");
  const models::TokenExperts& tokens = model.transformer.moe;
  must(train.attack_auxiliary == 0 ||
           (!tokens.blocks.empty() && (tokens.importance != 0 || tokens.balance != 0)),
       "train.attack_auxiliary needs a v-moe with model.importance above 0, and " + model.name +
           " has no auxiliary losses to attack; train.attack_auxiliary=0");
}

}  // namespace

Config overlay(const Config& base, const json& document, const std::string& origin) {
  const std::string at = origin + ": ";
  if (!document.is_object())
    throw UsageError(at + "must be a JSON object of sections: " + engine::listed(section_names()));
  Config config = base;
  if (const auto start = document.find("preset"); start != document.end()) {
    if (!start->is_string()) throw UsageError(at + "preset must be the name of a preset");
    if (!start->get<std::string>().empty()) config = preset(*start);
  }
  for (const auto& [section, keys] : document.items()) {
    if (section == "preset" || is_of_a_run(section)) continue;
    const std::vector<std::string> known = section_names();
    if (std::find(known.begin(), known.end(), section) == known.end())
      throw UsageError(at + "there is no section '" + section + "', only " + engine::listed(known) +
                       engine::suggestion(section, known));
    if (!keys.is_object()) throw UsageError(at + section + " must be an object of settings");
    const bool is_old = section == "model" && document.contains("architecture") &&
                        keys.contains("score_norm") && keys["score_norm"].is_boolean();
    const json settings = is_old ? with_zoo(keys) : keys;
    for (const auto& [key, value] : settings.items())
      assign(find_field(section + "." + key, at), config, value, at);
  }
  return config;
}

Config parse_config(const Config& base, const std::string& document, const std::string& origin) {
  json parsed;
  try {
    parsed = engine::parse_json(document, origin);
  } catch (const engine::Error& error) {
    throw UsageError(error.what());
  }
  return overlay(base, parsed, origin);
}

Config read_config(const Config& base, const std::filesystem::path& file) {
  const std::string origin = file.string();
  std::error_code failed;
  if (!std::filesystem::is_regular_file(file, failed))
    throw UsageError(origin + ": must be a JSON file with a configuration, " +
                     (std::filesystem::exists(file, failed) ? "it is none" : "there is none"));
  const uintmax_t size = std::filesystem::file_size(file, failed);
  if (failed || size > kLargestFile)
    throw UsageError(text(origin, ": a configuration must have at most ", kLargestFile,
                          " bytes, the file has ", size));
  std::ifstream in(file, std::ios::binary);
  const std::string document{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw UsageError(origin + ": cannot be read");
  return parse_config(base, document, origin);
}

Config override_with(const Config& base, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == assignment.npos || equals == 0)
    throw UsageError("a setting must be written section.key=value, got '" + assignment + "'");
  const Field& field = find_field(assignment.substr(0, equals), "");
  Config config = base;
  assign(field, config, parse(field, assignment.substr(equals + 1)), "");
  return config;
}

json to_json(const Config& config) {
  json document = {{"preset", config.preset}};
  for (const Field& field : fields()) document[field.section][field.key] = value_of(field, config);
  return document;
}

void validate(const Config& config) {
  for (const Field& field : fields()) check(field, config);
  const TrainSettings& train = config.train;
  require_eps(train.eps, "train.eps", train.norm);
  require_eps(train.step, "train.step", train.norm);
  require_eps(config.eval.eps, "eval.eps", train.norm);
  must(train.eps > 0 || train.method == "natural",
       "train.eps must be above 0 for train.method=" + train.method +
           "; train without an attack with train.method=natural");
  must(train.warmup_epochs < train.epochs, text("train.warmup_epochs must be below train.epochs = ",
                                                train.epochs, ", got ", train.warmup_epochs));
  must(train.awp == 0 || (is_joint(train.method) && train.method != "natural"),
       "train.awp perturbs weights with train.method=at, trades or mart, got " + train.method);
  cutout_fill(config.data);
  must((config.data.mixup == 0 && config.data.cutmix == 0) || train.batch > 1,
       "data.mixup and data.cutmix mix the images of a batch: train.batch must be above 1, got 1");
  const ModelSettings usual;
  must(train.method == "jtdmoe" ||
           (config.model.alpha == usual.alpha && config.model.average == usual.average),
       "model.alpha and model.average are of the dual model that train.method=jtdmoe makes, got "
       "train.method=" +
           train.method + "; leave them out");
  check_method(train, zoo_settings(config.model));
}

std::optional<double> cutout_fill(const DataSettings& data) {
  if (data.cutout_fill == "mean") return std::nullopt;
  const char* what = "data.cutout_fill (or mean)";
  const double value = parse_number(data.cutout_fill, what);
  if (value < 0 || value > 1) throw UsageError(text(what, " must be from 0 to 1, got ", value));
  return value;
}

std::string describe_config() {
  std::string lines;
  for (const Field& field : fields()) {
    const std::string range = range_of(field);
    lines += field.name() + " = " + value_of(field, Config{}).dump() + "\n    " + field.meaning +
             " [" + type_of(field) + (range.empty() ? "" : ", " + range) + "]\n";
  }
  return lines;
}

}  // namespace moat::train
