#include "train/trained_classes.h"

#include <algorithm>

#include "engine/io/json.h"

namespace moat::train {

using engine::json_text;
using engine::text;
using nlohmann::json;

std::string classes_text(const data::ImageSet& set) { return json_text(json(set.class_names)); }

std::string compare_trained_classes(const models::Metadata& metadata, const data::ImageSet& set) {
  const auto written = metadata.find(kClasses);
  if (written == metadata.end()) return {};
  const json trained = engine::parse_json_value(written->second, "the model's classes"),
             own = json::parse(classes_text(set));
  engine::require(trained.is_array(), "the model's classes must be a list of names");
  std::string other;
  for (size_t c = 0; c < std::min(own.size(), trained.size()); ++c) {
    if (trained[c] == own[c]) continue;
    const std::string line =
        text("the model was trained with class ", c, " = ", json_text(trained[c]),
             ", in data set '", set.name, "' it is ", json_text(own[c]));
    engine::require(std::ranges::find(trained, own[c]) == trained.end(), [&] {
      return line + ", another one of the model's; choose data.name and data.path with its classes";
    });
    if (other.empty()) other = line;
  }
  return other;
}

}  // namespace moat::train
