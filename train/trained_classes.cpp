#include "train/trained_classes.h"

#include "engine/io/json.h"

namespace moat::train {

using engine::json_text;
using engine::text;
using nlohmann::json;

std::string classes_text(const data::ImageSet& set) { return json_text(json(set.class_names)); }

void require_trained_classes(const models::Metadata& metadata, const data::ImageSet& set) {
  const auto written = metadata.find(kClasses);
  if (written == metadata.end()) return;
  const json trained = engine::parse_json_value(written->second, "the model's classes"),
             own = json::parse(classes_text(set));
  engine::require(trained.is_array(), "the model's classes must be a list of names");
  for (size_t c = 0; c < std::min(own.size(), trained.size()); ++c)
    engine::require(trained[c] == own[c], [&] {
      return text("the model was trained with class ", c, " = ", json_text(trained[c]),
                  ", in data set '", set.name, "' it is ", json_text(own[c]),
                  "; choose data.name and data.path with the model's classes");
    });
}

}  // namespace moat::train
