#include "models/checkpoint.h"

#include <cmath>
#include <set>
#include <utility>
#include <vector>

namespace moat::models {

using namespace engine;

namespace {

constexpr const char* kArchitecture = "architecture";

// Filters are KRSC here and OIHW in files.
Tensor file_layout(const Tensor& t) {
  return (t.rank() == 4 ? t.permuted({0, 3, 1, 2}) : t).to(Device{}).clone();
}
Tensor engine_layout(const Tensor& t) { return t.rank() == 4 ? t.permuted({0, 2, 3, 1}) : t; }

const Tensor& stored(const std::string& name, const SafeTensors& file, const std::string& origin) {
  const auto it = file.tensors.find(name);
  require(it != file.tensors.end(), [&] {
    return text(origin, ": the model needs a tensor '", name, "', the file has none");
  });
  return it->second;
}

int64_t elements(const SafeTensors& file) {
  int64_t n = 0;
  for (const auto& named : file.tensors) n += named.second.size();
  return n;
}

// The normaliser that the file holds.
void read_normaliser(ClassifierSettings& s, const std::string& prefix, const SafeTensors& file) {
  if (s.dual) {
    DualSettings parts = *s.dual;
    read_normaliser(parts.standard, prefix + "standard.", file);
    read_normaliser(parts.robust, prefix + "robust.", file);
    s.dual = std::make_shared<const DualSettings>(parts);
    return;
  }
  for (const auto& [name, values] :
       {std::pair{"normalize.mean", &s.mean}, std::pair{"normalize.std", &s.deviation}}) {
    const auto tensor = file.tensors.find(prefix + name);
    if (tensor != file.tensors.end() && tensor->second.size() == s.channels)
      *values = tensor->second.to(Dtype::f64).to_vector<double>();
  }
}

// By a normaliser that is not one all images are the same.
void require_normaliser(const std::string& name, const Tensor& value, const std::string& origin) {
  const bool is_deviation = name.ends_with("normalize.std");
  if (!is_deviation && !name.ends_with("normalize.mean")) return;
  for (const double x : value.to(Dtype::f64).to_vector<double>())
    require(std::isfinite(x) && (!is_deviation || x > 0), [&] {
      return text(origin, ": '", name, "' must be finite", is_deviation ? " and above 0" : "",
                  ", got ", x, "; mend the file or give another normaliser");
    });
}

// Built with no more parameters than the file has numbers.
Classifier build(const ClassifierSettings& settings, const SafeTensors& file,
                 const std::string& origin, Device device) {
  try {
    const InitStream unwritten{.fill = InitStream::Fill::none, .budget = elements(file)};
    return Classifier(settings, unwritten, device);
  } catch (const Error& error) {
    throw Error(text(origin, ": ", error.what()));
  }
}

LoadedModel loaded_from(const SafeTensors& file, const std::string& origin, Device device,
                        const Adapt& adapt) {
  const auto it = file.metadata.find(kArchitecture);
  require(it != file.metadata.end(), [&] {
    return text(origin,
                ": a moat checkpoint holds its architecture in the metadata; this file has none");
  });
  ClassifierSettings settings = parse_architecture(it->second, origin);
  read_normaliser(settings, "", file);
  if (adapt) adapt(settings);
  LoadedModel loaded{build(settings, file, origin, device), file.metadata};
  restore(loaded.model, "", file, origin);
  return loaded;
}

}  // namespace

void store(Classifier& model, const std::string& prefix, SafeTensors& to) {
  for (const NamedTensor& t : state_of(model)) to.tensors[prefix + t.name] = file_layout(*t.value);
}

void restore(Classifier& model, const std::string& prefix, const SafeTensors& from,
             const std::string& origin) {
  std::set<std::string> known;
  std::vector<std::pair<Tensor, Tensor>> copies;  // all is checked before anything is changed
  for (const NamedTensor& t : state_of(model)) {
    const std::string name = prefix + t.name;
    known.insert(name);
    const Tensor value = engine_layout(stored(name, from, origin));
    require(value.shape() == t.value->shape() && value.dtype() == t.value->dtype(), [&] {
      return text(origin, ": '", name, "' must be ", name_of(t.value->dtype()), " ",
                  file_layout(*t.value).shape().str(), ", got ", name_of(value.dtype()), " ",
                  file_layout(value).shape().str());
    });
    require_normaliser(name, value, origin);
    copies.emplace_back(*t.value, value);
  }
  if (prefix.empty())
    for (const auto& read : from.tensors)
      require(known.contains(read.first), [&] {
        return text(origin, ": the model has no tensor '", read.first,
                    "'; is the architecture right?");
      });
  for (const auto& [to, value] : copies) to.copy_from(value);
}

SafeTensors to_file(Classifier& model, const Metadata& metadata) {
  SafeTensors file;
  file.metadata = metadata;
  file.metadata[kArchitecture] = architecture_json(model.settings());
  store(model, "", file);
  return file;
}

LoadedModel load_model(const std::filesystem::path& path, Device device, const Adapt& adapt) {
  return loaded_from(read_safetensors(path), path.string(), device, adapt);
}

LoadedModel from_file(const SafeTensors& file, const std::string& origin, Device device) {
  return loaded_from(file, origin, device, {});
}

}  // namespace moat::models
