#pragma once

#include <cstdint>
#include <cstdio>

#include <jpeglib.h>
#include <png.h>

#include <vector>

#include "data/image.h"

namespace moat::tests {

using Bytes = std::vector<uint8_t>;

// Smooth, so that JPEG keeps it; different in every channel.
data::Image ramp(int height, int width, int channels, int offset = 0);

struct JpegForm {
  bool progressive = false;
  J_COLOR_SPACE stored = JCS_UNKNOWN;  // JCS_UNKNOWN: what libjpeg stores of such pixels
  bool adobe_marker = true;            // where libjpeg would write one
};
// Pixels of `space`, at quality 95.
Bytes jpeg_of(const data::Image& image, J_COLOR_SPACE space, JpegForm form = {});

struct PngForm {
  int width, height, depth, colour;
  int interlace = PNG_INTERLACE_NONE;
  std::vector<png_color> palette = {};
  bool has_transparent_colour = false;  // tRNS: colour 0
};
// `raw` holds the rows as the format packs them.
Bytes png_of(const PngForm& form, Bytes raw);
Bytes png_of(const data::Image& image);

}  // namespace moat::tests
