#pragma once

#include <span>

#include "data/image.h"

namespace moat::data {

// Baseline or progressive JPEG, gray or colour, as RGB. Throws on anything damaged (what libjpeg
// would only warn about included), on CMYK, and on sizes beyond require_reasonable_size().
Image decode_jpeg(std::span<const uint8_t> bytes);

}  // namespace moat::data
