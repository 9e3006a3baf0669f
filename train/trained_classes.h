#pragma once

#include "data/image_set.h"
#include "models/checkpoint.h"

namespace moat::train {

// The key of a checkpoint's metadata for the names of the classes the model was trained on.
inline constexpr const char* kClasses = "classes";

// What stands there: a JSON list in UTF-8.
std::string classes_text(const data::ImageSet& set);

// Throws one line where a class of the set has another number in the metadata: every label would be
// wrong. A line of warning where names differ that only the set has (CIFAR-10 in folders "0" to
// "9"), empty where all are the same. Of a file without names nothing is known.
std::string compare_trained_classes(const models::Metadata& metadata, const data::ImageSet& set);

}  // namespace moat::train
