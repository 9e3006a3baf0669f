#include "models/checkpoint.h"

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

// Throws unless the file holds the stem, the head and the last filters of every block of this net,
// so that building it takes no more memory than the file did.
void require_backed(const std::string& prefix, const ResNetShape& net, const SafeTensors& file,
                    const std::string& origin) {
  const auto must_hold = [&](const std::string& leaf, const Shape& shape) {
    const Shape& given = stored(prefix + leaf, file, origin).shape();
    require(given == shape, [&] {
      return text(origin, ": by its architecture '", prefix, leaf, "' must be ", shape.str(),
                  ", got ", given.str());
    });
  };
  must_hold("conv1.weight", {net.stem_width, net.in_channels, 3, 3});
  must_hold("fc.weight", {net.outputs, net.widths.back()});
  for (size_t s = 0; s < net.blocks.size(); ++s)
    for (int b = 0; b < net.blocks[s]; ++b) {
      const int64_t width = net.widths[s];
      must_hold(text("layer", s + 1, ".", b, ".conv2.weight"), {net.experts * width, width, 3, 3});
    }
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

LoadedModel from_file(const SafeTensors& file, const std::string& origin, Device device) {
  const auto it = file.metadata.find(kArchitecture);
  require(it != file.metadata.end(), [&] {
    return text(origin,
                ": a moat checkpoint holds its architecture in the metadata; this file has none");
  });
  ClassifierSettings settings = parse_architecture(it->second, origin);
  for (const auto& [name, values] : {std::pair{"normalize.mean", &settings.mean},
                                     std::pair{"normalize.std", &settings.deviation}}) {
    const auto tensor = file.tensors.find(name);
    if (tensor != file.tensors.end() && tensor->second.size() == settings.channels)
      *values = tensor->second.to(Dtype::f64).to_vector<double>();
  }
  require_backed("", net_shape(settings), file, origin);
  if (settings.experts > 1) require_backed("router.", router_shape(settings), file, origin);
  LoadedModel loaded{Classifier(settings, 0, device), file.metadata};
  restore(loaded.model, "", file, origin);
  return loaded;
}

LoadedModel load_model(const std::filesystem::path& path, Device device) {
  return from_file(read_safetensors(path), path.string(), device);
}

}  // namespace moat::models
