#pragma once

#include "data/image_set.h"
#include "models/checkpoint.h"

namespace moat::train {

// The key of a checkpoint's metadata for the names of the classes the model was trained on.
inline constexpr const char* kClasses = "classes";

// What stands there: a JSON list in UTF-8.
std::string classes_text(const data::ImageSet& set);

// Throws one line where the metadata names other classes than the set's. Of a file without names
// nothing is known.
void require_trained_classes(const models::Metadata& metadata, const data::ImageSet& set);

}  // namespace moat::train
