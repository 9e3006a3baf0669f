#include "models/name_map.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "engine/io/json.h"
#include "engine/names.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/finite.h"
#include "engine/ops/shape.h"
#include "models/name_layouts.h"
#include "models/name_rules.h"

namespace moat::models {

using namespace engine;

namespace {

constexpr const char *kOwn = "moat", *kAuto = "auto", *kMean = "normalize.mean",
                     *kDeviation = "normalize.std";
constexpr size_t kNamed = 3, kShown = 80;  // names that an error gives of a list, bytes of a name

bool applies(const NameRule& rule, const ClassifierSettings& s, const Project& project) {
  return (rule.project.empty() || rule.project == project.name) &&
         (!rule.family || *rule.family == s.family);
}

bool fits(const Project& project, const ClassifierSettings& s) {
  const bool is_its_family = std::find(project.families.begin(), project.families.end(),
                                       s.family) != project.families.end();
  if (s.dual || !is_its_family || project.name == kOwn) return !s.dual && is_its_family;
  const bool is_its_mixture =
      project.mixtures ? s.experts > 1 && s.experts_are == *project.mixtures : s.experts == 1;
  return is_its_mixture && s.kept == 1 && s.shortcut == Shortcut::projection &&
         (s.transformer.moe.blocks.empty() || project.routes_tokens);
}

// Without what wrappers put in front, and '.' between its parts.
std::string plain_name(std::string_view name) {
  for (bool is_wrapped = true; is_wrapped;) {
    is_wrapped = false;
    for (std::string_view prefix : name_prefixes()) {
      const size_t last = prefix.size();
      const bool follows = name.starts_with(prefix) && name.size() > last &&
                           (name[last] == '.' || name[last] == '/');
      if (!follows) continue;
      name.remove_prefix(last + 1);
      is_wrapped = true;
    }
  }
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '/', '.');
  return plain;
}

// For an error: a hostile file may have names of any length.
std::string shown(const std::string& name) {
  return name.size() <= kShown ? name : name.substr(0, kShown) + "…";
}

// A file's tensors by our names, in PyTorch's layouts.
struct Renamed {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> origin;  // what the file calls them
  std::vector<std::string> unused;
};

Renamed read_names(const SafeTensors& file, const ClassifierSettings& s, const Project& project,
                   const std::string& origin) {
  Renamed out;
  std::map<std::string, std::array<Tensor, kThirds>> thirds;
  for (const auto& [theirs, value] : file.tensors) {
    const std::string name = plain_name(theirs), who = text(origin, ": '", shown(theirs), "'");
    std::string ours = name;
    Tensor t = is_floating(value.dtype()) ? value.to(Dtype::f32) : value;
    int third = kWhole;
    bool is_silent = false;
    for (const NameRule& rule : name_rules()) {
      const auto found = applies(rule, s, project) ? renamed(name, rule.theirs, rule.ours)
                                                   : std::optional<std::string>{};
      if (!found) continue;
      require(rule.refusal.empty(), [&] { return text(who, " is refused: ", rule.refusal); });
      ours = *found;
      third = rule.third;
      is_silent = rule.use == NameRule::Use::silent;
      if (!ours.empty()) t = read_layout(t, rule.layout, s, who);
      break;
    }
    if (ours.empty()) {
      if (!is_silent) out.unused.push_back(theirs);
      continue;
    }
    Tensor& to = third == kWhole ? out.tensors[ours] : thirds[ours].at(static_cast<size_t>(third));
    require(!to.defined(), [&] {
      return text(who, " and '", shown(out.origin[ours]), "' are both the tensor '", shown(ours),
                  "'");
    });
    to = t;
    out.origin[ours] = theirs;
  }
  for (const auto& [ours, parts] : thirds) {
    const Tensor& first = parts[0];
    if (std::all_of(parts.begin(), parts.end(), [&](const Tensor& t) {
          return t.defined() && t.shape() == first.shape() && t.dtype() == first.dtype();
        }))
      out.tensors[ours] = concat({parts.begin(), parts.end()}, 0);
  }
  return out;
}

// A convolution's bias moves into the running mean of the norm behind it, in a VGG of torchvision.
void fold_biases(Renamed& file) {
  constexpr int kPlaces = 1000;
  for (int place = 0; place < kPlaces; ++place) {
    const std::string conv = text("features.", place, "."),
                      norm = text("features.", place + 1, ".");
    const auto weight = file.tensors.find(conv + "weight"), bias = file.tensors.find(conv + "bias"),
               mean = file.tensors.find(norm + "running_mean");
    if (weight == file.tensors.end() || weight->second.rank() != 4 || bias == file.tensors.end() ||
        mean == file.tensors.end() || bias->second.shape() != mean->second.shape())
      continue;
    mean->second = sub(mean->second, bias->second);
    file.tensors.erase(bias);
    file.origin.erase(conv + "bias");
  }
}

// Classes and channels as the file has them.
void follow(ClassifierSettings& s, const Renamed& file) {
  const auto extent = [&](const std::vector<const char*>& names, int axis, int otherwise) {
    for (const char* prefix : {"", "experts.0."})
      for (const char* name : names) {
        const auto it = file.tensors.find(text(prefix, name));
        if (it != file.tensors.end() && it->second.rank() >= 2) return to_int(it->second.dim(axis));
      }
    return otherwise;
  };
  s.classes = extent({"fc.weight", "classifier.weight", "classifier.4.weight", "head.weight"}, 0,
                     s.classes);
  s.channels = extent(
      {"conv1.weight", "features.conv0.weight", "features.0.weight", "patch_embed.proj.weight"}, 1,
      s.channels);
}

// "a, b, c and 5 more"
std::string some(std::vector<std::string> names) {
  const size_t all = names.size();
  if (all <= kNamed) return listed(names);
  std::string line;
  for (size_t i = 0; i < kNamed; ++i) line += (i ? ", " : "") + names[i];
  return text(line, " and ", all - kNamed, " more");
}

using Ranks = std::map<std::string, int>;  // of a model's tensors, by name

struct Differences {
  std::vector<std::string> missing, left_over;
  size_t other_ranks = 0;  // tensors that are there in another form
  size_t count() const { return missing.size() + left_over.size(); }
  bool operator<(const Differences& other) const {
    return std::pair(count(), other_ranks) < std::pair(other.count(), other.other_ranks);
  }
};

Differences compared(const Ranks& names, const Renamed& file) {
  Differences out;
  for (const auto& [name, rank] : names) {
    const auto it = file.tensors.find(name);
    if (it != file.tensors.end())
      out.other_ranks += it->second.rank() != rank;
    else if (name != kMean && name != kDeviation)
      out.missing.push_back(name);
  }
  for (const auto& [ours, theirs] : file.origin)
    if (!names.contains(ours)) out.left_over.push_back(shown(theirs));
  return out;
}

std::string message(const Differences& d, const ClassifierSettings& s, const Project& project,
                    const std::string& origin) {
  std::vector<std::string> missing;
  for (const std::string& name : d.missing) {
    const auto near = missing.size() < kNamed ? nearest(name, d.left_over) : d.missing;
    missing.push_back(missing.size() < kNamed && !near.empty()
                          ? text(name, " (nearest: ", near.front(), ")")
                          : name);
  }
  std::string line = text(origin, ": by the names of ", project.name, ", ");
  if (!missing.empty()) line += text("'", s.name, "' misses ", some(missing));
  if (!d.left_over.empty())
    line +=
        text(missing.empty() ? "" : "; ", d.left_over.size(), " left over: ", some(d.left_over));
  return line + "; is it this model, and the right --map?";
}

std::string list_of(const Tensor& t) {
  return nlohmann::json(t.to(Device{}).to_vector<float>()).dump();
}

// What an export of moat wrote of the normaliser.
std::vector<double> listed_in(const SafeTensors& file, const char* key, const std::string& origin) {
  const auto it = file.metadata.find(key);
  if (it == file.metadata.end()) return {};
  const std::string at = text(origin, ": ", key);
  const auto json = parse_json_value(it->second, at);
  require(
      json.is_array() && std::ranges::all_of(json, [](const auto& v) { return v.is_number(); }),
      [&] { return text(at, ": must be a list of numbers, got ", it->second.substr(0, kShown)); });
  return json.get<std::vector<double>>();
}

std::vector<double> known_or(const std::vector<double>& given, const char* key, const Renamed& file,
                             const SafeTensors& raw, const std::string& origin) {
  if (!given.empty()) return given;
  const auto it = file.tensors.find(key);
  return it == file.tensors.end() ? listed_in(raw, key, origin)
                                  : it->second.to(Dtype::f64).to_vector<double>();
}

Ranks names_of(Classifier& model) {
  Ranks names;
  for (const NamedTensor& t : state_of(model)) names[t.name] = t.value->rank();
  return names;
}

// A model whose sizes are the file's: with no more numbers than that has.
Classifier build(const ClassifierSettings& s, const SafeTensors& file, const std::string& origin) {
  int64_t elements = 0;
  for (const auto& named : file.tensors) elements += named.second.size();
  try {
    return Classifier(s, InitStream{.fill = InitStream::Fill::none, .budget = elements});
  } catch (const Error& error) {
    throw Error(text(origin, ": ", error.what()));
  }
}

struct Fit {
  const Project* project;
  Renamed file;
  Differences differences;
};

Fit fit_of(const Project& project, const SafeTensors& file, const ClassifierSettings& s,
           const Ranks& names, const std::string& origin) {
  Fit fit{&project, read_names(file, s, project, origin), {}};
  if (s.family == Family::vgg) fold_biases(fit.file);
  fit.differences = compared(names, fit.file);
  return fit;
}

// The first of the best.
Fit best_fit(const SafeTensors& file, const ClassifierSettings& s, const Ranks& names,
             const std::string& origin) {
  std::optional<Fit> best;
  std::optional<Error> refused;
  for (const Project& project : projects()) {
    if (!fits(project, s)) continue;
    try {
      Fit fit = fit_of(project, file, s, names, origin);
      if (!best || fit.differences < best->differences) best = std::move(fit);
    } catch (const Error& error) {
      refused = error;
    }
  }
  if (refused && (!best || best->differences.count() > 0)) throw *refused;
  return std::move(best.value());
}

}  // namespace

const std::vector<Project>& projects() {
  using enum Family;
  static const std::vector<Project> rows = {
      {kOwn, "the names of a checkpoint", {resnet, wide_resnet, preact_resnet, vgg, densenet, vit}},
      {"torchvision", "ResNet, VGG and DenseNet", {resnet, vgg, densenet}},
      {"robustbench", "ResNet, PreActResNet and WideResNet", {resnet, wide_resnet, preact_resnet}},
      {"timm", "vision transformers", {vit}, ExpertActivation::gelu},
      {"rt-er",
       "mixtures of whole networks behind a linear router",
       {resnet, vit},
       {},
       Experts::networks},
      {.name = "v-moe",
       .about = "V-MoE and ViT, a tree of Flax",
       .families = {vit},
       .activation = ExpertActivation::gelu_tanh,
       .routes_tokens = true}};
  return rows;
}

const Project& find_project(const std::string& name) {
  return find_named("the project", name, projects(), [](const Project& p) { return p.name; });
}

bool can_export(const ClassifierSettings& s, const Project& project) {
  return fits(project, s) &&
         (s.family != Family::vit ||
          project.activation.value_or(s.transformer.activation) == s.transformer.activation);
}

SafeTensors export_as(Classifier& model, const Project& project) {
  const ClassifierSettings& s = model.settings();
  require(can_export(s, project), [&] {
    std::vector<std::string> known;
    for (const Project& other : projects())
      if (can_export(s, other)) known.push_back(other.name);
    return text(project.name, " has no net like '", s.name, "'",
                known.empty() ? "; a dual model has the names of moat alone"
                              : "; its names can be those of " + listed(known));
  });
  SafeTensors own, out;
  store(model, "", own);
  out.metadata["names"] = project.name;
  for (const auto& [name, t] : own.tensors) {
    if (name == kMean || name == kDeviation) {
      out.metadata[name] = list_of(t);
      continue;
    }
    bool is_named = false;
    for (const NameRule& rule : name_rules()) {
      if (is_named && rule.third == kWhole) continue;
      if (!applies(rule, s, project) || rule.use == NameRule::Use::reading || rule.ours.empty())
        continue;
      const auto theirs = renamed(name, rule.ours, rule.theirs);
      if (!theirs) continue;
      const int64_t rows = t.dim(0) / kThirds, from = rows * std::max(0, rule.third);
      const Tensor part = rule.third == kWhole ? t : slice(t, 0, from, from + rows);
      out.tensors[*theirs] = written_layout(part, rule.layout, s);
      is_named = true;
    }
    if (!is_named) out.tensors[name] = t;
  }
  return out;
}

Imported import_model(const SafeTensors& file, const ClassifierSettings& settings,
                      const std::string& project, const std::string& origin) {
  ClassifierSettings s = settings;
  ClassifierSettings bare = s;
  bare.mean = bare.deviation = {};
  Classifier draft(bare, InitStream{.fill = InitStream::Fill::none});
  const Ranks names = names_of(draft);
  Fit fit = project == kAuto ? best_fit(file, s, names, origin)
                             : fit_of(find_project(project), file, s, names, origin);
  require(fit.differences.count() == 0,
          [&] { return message(fit.differences, s, *fit.project, origin); });
  follow(s, fit.file);
  s.transformer.activation = fit.project->activation.value_or(s.transformer.activation);
  s.mean = known_or(s.mean, kMean, fit.file, file, origin);
  s.deviation = known_or(s.deviation, kDeviation, fit.file, file, origin);
  parse_architecture(architecture_json(s), origin);  // refuses what no checkpoint can hold
  for (const std::vector<double>* values : {&s.mean, &s.deviation})
    require(values->empty() || values->size() == static_cast<size_t>(s.channels), [&] {
      return text(origin, ": the normaliser must have a mean and a deviation for each of ",
                  s.channels, " channels, got ", values->size());
    });
  Imported imported{build(s, file, origin), fit.project->name, fit.file.unused};
  SafeTensors tensors;
  for (const NamedTensor& t : state_of(imported.model))
    if (t.name == kMean || t.name == kDeviation) tensors.tensors[t.name] = *t.value;
  tensors.tensors.merge(fit.file.tensors);
  restore(imported.model, "", tensors, origin);
  for (const NamedTensor& t : state_of(imported.model))
    require(count_nonfinite(*t.value) == 0, [&] {
      const auto theirs = fit.file.origin.find(t.name);
      return text(origin, ": '", shown(theirs == fit.file.origin.end() ? t.name : theirs->second),
                  "' must be finite in float32, ", count_nonfinite(*t.value), " of its ",
                  t.value->size(), " numbers are not");
    });
  return imported;
}

}  // namespace moat::models
