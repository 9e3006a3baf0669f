#pragma once

#include "data/image_set.h"

namespace moat::data {

// The bundled data set: 1,797 real handwritten digits, 8x8x1, values 0 … 16 (E. Alpaydin and
// C. Kaynak, UCI, CC BY 4.0; see data/README.md). Row i is in the test split when i mod 5 = 4, in
// the validation split when i mod 5 = 3, else in the training split; ids are row indices.
ImageSet digits(Split split);

}  // namespace moat::data
