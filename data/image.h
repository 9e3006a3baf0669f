#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace moat::data {

struct Image {
  int height = 0, width = 0, channels = 3;
  std::vector<uint8_t> pixels;  // [height, width, channels]
};

// What a file may claim before memory is asked for.
inline constexpr int64_t kMaxImageSide = 16384, kMaxImagePixels = int64_t{64} << 20;
void require_reasonable_size(int64_t height, int64_t width);
// The same, of a file of this length: a header alone must not make us ask for memory. The densest
// file is a black and white PNG, of which deflate packs 1032 bytes of eight pixels into one.
inline constexpr int64_t kMostPixelsPerByte = 1032 * 8;
void require_reasonable_size(int64_t height, int64_t width, size_t file_bytes);

// A JPEG or PNG file, told apart by their first bytes, as 8-bit RGB.
Image decode_image(std::span<const uint8_t> bytes);
Image read_image(const std::filesystem::path& path);  // an error names the file

// Bilinear to height x width. Pixel centres are at half integers, the image's edge maps to the
// edge; a reduction widens the triangle filter by its factor, so that every source pixel counts
// (PIL's BILINEAR). Weights and the intermediate are float32, the result is rounded to nearest.
Image resized(const Image& image, int height, int width);

}  // namespace moat::data
