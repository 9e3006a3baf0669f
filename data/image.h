#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
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

// Gives a decoder the place for pixels [height, width, 3], once it knows the size.
using Room = std::function<uint8_t*(int height, int width)>;

// A JPEG or PNG file, told apart by their first bytes, as 8-bit RGB.
void decode_image(std::span<const uint8_t> bytes, const Room& room);
Image decode_image(std::span<const uint8_t> bytes);

// The same of a file; an error names it.
void read_image(const std::filesystem::path& path, const Room& room);
Image read_image(const std::filesystem::path& path);

// What `decode` decodes, in memory of its own.
Image as_image(const std::function<void(const Room&)>& decode);

// Bilinear to height x width. Pixel centres are at half integers, the image's edge maps to the
// edge; a reduction widens the triangle filter by its factor, so that every source pixel counts
// (PIL's BILINEAR). Weights and the intermediate are float32, the result is rounded to nearest.
Image resized(const Image& image, int height, int width);

// What becomes side x side: the whole image, its aspect not kept; or, as by torchvision's Resize
// and CenterCrop, the middle (engine::centred) of the image whose shorter side is resized to it,
// the longer one rounded down.
enum class ResizeBy : uint8_t { both_sides, shorter_side };
const char* name_of(ResizeBy by);
ResizeBy parse_resize_by(std::string_view name);  // throws UsageError
Image squared(const Image& image, int side, ResizeBy by);

}  // namespace moat::data
