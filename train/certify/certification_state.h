#pragma once

#include "train/certify/certificate.h"

namespace moat::train {

// What a certification has found so far, as tensors: its images, the first of the set, and how many
// resisted at which eps.
SavedState::Tensors tensors_of(const Certification& certification);
// The other way; throws for what cannot be a part of a certification of this model and set.
void restore(const SavedState::Tensors& found, const models::Classifier& model,
             const data::ImageSet& set, Certification& to);

}  // namespace moat::train
