#include "models/checkpoint.h"

#include <set>

namespace moat::models {

using namespace engine;

namespace {

constexpr const char* kArchitecture = "architecture";

// Filters are KRSC here and OIHW in files.
Tensor file_layout(const Tensor& t) {
  return (t.rank() == 4 ? t.permuted({0, 3, 1, 2}) : t).to(Device{}).clone();
}
Tensor engine_layout(const Tensor& t) {
  return t.rank() == 4 ? t.permuted({0, 2, 3, 1}) : t;
}

}  // namespace

void store(Classifier& model, const std::string& prefix, SafeTensors& to) {
  for (const NamedTensor& t : state_of(model)) to.tensors[prefix + t.name] = file_layout(*t.value);
}

void restore(Classifier& model, const std::string& prefix, const SafeTensors& from,
             const std::string& origin) {
  std::set<std::string> known;
  for (const NamedTensor& t : state_of(model)) {
    const std::string name = prefix + t.name;
    known.insert(name);
    const auto it = from.tensors.find(name);
    require(it != from.tensors.end(), [&] {
      return text(origin, ": the model needs a tensor '", name, "', the file has none");
    });
    const Tensor value = engine_layout(it->second);
    require(value.shape() == t.value->shape() && value.dtype() == t.value->dtype(), [&] {
      return text(origin, ": '", name, "' must be ", name_of(t.value->dtype()), " ",
                  file_layout(*t.value).shape().str(), ", got ", name_of(it->second.dtype()), " ",
                  it->second.shape().str());
    });
    t.value->copy_from(value);
  }
  if (!prefix.empty()) return;
  for (const auto& [name, tensor] : from.tensors)
    require(known.contains(name), [&] {
      return text(origin, ": the model has no tensor '", name, "'; is the architecture right?");
    });
}

SafeTensors to_file(Classifier& model, const Metadata& metadata) {
  SafeTensors file;
  file.metadata = metadata;
  file.metadata[kArchitecture] = architecture_json(model.settings());
  store(model, "", file);
  return file;
}

LoadedModel load_model(const std::filesystem::path& path) {
  const SafeTensors file = read_safetensors(path);
  const auto it = file.metadata.find(kArchitecture);
  require(it != file.metadata.end(), [&] {
    return text(path.string(),
                ": a moat checkpoint holds its architecture in the metadata; this file has none");
  });
  ClassifierSettings settings = parse_architecture(it->second, path.string());
  for (const auto& [name, values] : {std::pair{"normalize.mean", &settings.mean},
                                     std::pair{"normalize.std", &settings.deviation}}) {
    const auto tensor = file.tensors.find(name);
    if (tensor != file.tensors.end() && tensor->second.size() == settings.channels)
      *values = tensor->second.to(Dtype::f64).to_vector<double>();
  }
  LoadedModel loaded{Classifier(settings, 0), file.metadata};
  restore(loaded.model, "", file, path.string());
  return loaded;
}

}  // namespace moat::models
