#include "train/certify/certification_state.h"

#include <algorithm>

namespace moat::train {

using namespace engine;

namespace {

template <class T>
using Column = std::pair<const char*, T ImageCertificate::*>;

constexpr Column<int> kNumbers[] = {{"prediction", &ImageCertificate::prediction},
                                    {"route", &ImageCertificate::route}};
constexpr Column<double> kRadii[] = {{"interval", &ImageCertificate::interval},
                                     {"affine", &ImageCertificate::affine},
                                     {"lipschitz", &ImageCertificate::lipschitz},
                                     {"route_radius", &ImageCertificate::route_radius}};
constexpr const char* kResisted = "resisted";

// Values of a column that are all at least `low` and at most `high`.
template <class T>
std::vector<T> values(const SavedState::Tensors& found, const char* name, T low, T high) {
  const auto it = found.find(name);
  require(it != found.end() && it->second.dtype() == dtype_of<T>() && it->second.rank() == 1, [&] {
    return text("the state of a certification needs '", name, "', a list in ",
                engine::name_of(dtype_of<T>()));
  });
  std::vector<T> list = it->second.template to_vector<T>();
  for (T value : list)
    require(value >= low && value <= high, [&] {
      return text("the state of a certification has '", name, "' from ", low, " to ", high,
                  ", got ", value);
    });
  return list;
}

}  // namespace

SavedState::Tensors tensors_of(const Certification& c) {
  SavedState::Tensors found;
  const auto add = [&]<class T>(const Column<T>& column) {
    std::vector<T> list;
    for (const ImageCertificate& image : c.images) list.push_back(image.*column.second);
    found[column.first] = Tensor::from(list, {std::ssize(list)});
  };
  for (const auto& column : kNumbers) add(column);
  for (const auto& column : kRadii) add(column);
  found[kResisted] = Tensor::from(c.resisted, {std::ssize(c.resisted)});
  return found;
}

void restore(const SavedState::Tensors& found, const models::Classifier& model,
             const data::ImageSet& set, Certification& to) {
  Certification c;
  const auto take = [&]<class T>(const Column<T>& column, T low, T high) {
    const std::vector<T> list = values(found, column.first, low, high);
    if (column.first == kNumbers[0].first) c.images.resize(list.size());
    require(list.size() == c.images.size() && std::ssize(list) <= set.size(), [&] {
      return text("the state of a certification has '", column.first, "' of ", list.size(),
                  ", not ", c.images.size(), ", of ", set.size(), " images");
    });
    for (size_t i = 0; i < list.size(); ++i) c.images[i].*column.second = list[i];
  };
  take(kNumbers[0], 0, model.settings().classes - 1);
  take(kNumbers[1], -1, model.routes() - 1);
  for (const auto& column : kRadii) take(column, 0.0, std::numeric_limits<double>::infinity());
  for (ImageCertificate& image : c.images)
    image.radius = std::max({image.interval, image.affine, image.lipschitz});
  c.resisted = values(found, kResisted, int64_t{0}, set.size());
  require(c.resisted.empty() || std::ssize(c.images) == set.size(),
          "the state of a certification has attacked images that are not proven yet");
  to.images = std::move(c.images);
  to.resisted = std::move(c.resisted);
}

}  // namespace moat::train
