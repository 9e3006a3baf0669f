#pragma once

#include <span>

#include "data/image.h"

namespace moat::data {

// Baseline or progressive JPEG, gray, YCbCr, RGB, CMYK or YCCK, as RGB: a channel is the light that
// its ink and black let through, round((255 - ink) (255 - black) / 255). Ink is stored inverted
// where Adobe's marker stands in the file (Pillow takes every such file for inverted). Always
// decoded at full size with libjpeg's exact transform; EXIF is not looked at. Throws on damage that
// libjpeg finds (what it would only warn about included, unless the pixels cannot suffer), and on
// sizes beyond require_reasonable_size(). A JPEG has no checksum: a flipped bit can be other
// pixels.
void decode_jpeg(std::span<const uint8_t> bytes, const Room& room);
Image decode_jpeg(std::span<const uint8_t> bytes);

}  // namespace moat::data
