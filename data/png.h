#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "data/image.h"

namespace moat::data {

// Any PNG as 8-bit RGB: palettes and gray become RGB; alpha is dropped and not blended, as
// Pillow's convert("RGB") does, because what lies behind is nobody's; 1, 2 and 4 bits are spread
// over 0 … 255, 16 bits become round(v / 257); gamma and colour profiles are ignored. Throws on
// anything damaged and on sizes beyond require_reasonable_size().
void decode_png(std::span<const uint8_t> bytes, const Room& room);
Image decode_png(std::span<const uint8_t> bytes);

// 8-bit PNG. channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; pixels
// [height, width, channels]. The same pixels give the same bytes.
std::vector<uint8_t> encode_png(int width, int height, int channels,
                                std::span<const uint8_t> pixels);
void write_png(const std::filesystem::path& path, int width, int height, int channels,
               std::span<const uint8_t> pixels);

}  // namespace moat::data
