#include "data/image.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "data/jpeg.h"
#include "data/png.h"
#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/ops/augment.h"

namespace moat::data {

using engine::require;
using engine::text;

void require_reasonable_size(int64_t height, int64_t width) {
  require(height > 0 && width > 0 && height <= kMaxImageSide && width <= kMaxImageSide &&
              height * width <= kMaxImagePixels,
          [&] {
            return text("an image must have sides of 1 to ", kMaxImageSide, " and at most ",
                        kMaxImagePixels, " pixels, this one claims ", width, "x", height);
          });
}

void require_reasonable_size(int64_t height, int64_t width, size_t file_bytes) {
  require_reasonable_size(height, width);
  require(height * width <= kMostPixelsPerByte * static_cast<int64_t>(file_bytes), [&] {
    return text("an image must have at most ", kMostPixelsPerByte, " pixels per byte of its file, ",
                "this one claims ", width, "x", height, " in ", file_bytes, " bytes");
  });
}

Image as_image(const std::function<void(const Room&)>& decode) {
  Image out;
  decode([&](int height, int width) {
    out.height = height, out.width = width;
    out.pixels.resize(size_t{3} * height * width);
    return out.pixels.data();
  });
  return out;
}

namespace {
// What a file is that is not read, by its first bytes: ", but GIF".
std::string found_form(std::string_view head) {
  if (head.empty()) return ", but empty";
  if (head.starts_with("GIF8")) return ", but GIF";
  if (head.starts_with("BM")) return ", but BMP";
  if (head.starts_with("II*") || head.starts_with("MM")) return ", but TIFF";
  if (head.starts_with("RIFF") && head.substr(0, 12).ends_with("WEBP")) return ", but WebP";
  if (head.starts_with("P5") || head.starts_with("P6")) return ", but PGM or PPM";
  return "";
}
}  // namespace

void decode_image(std::span<const uint8_t> bytes, const Room& room) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (head.starts_with("\xff\xd8")) return decode_jpeg(bytes, room);
  if (head.starts_with("\x89PNG")) return decode_png(bytes, room);
  throw engine::Error(
      text("neither a JPEG nor a PNG file", found_form(head), ": convert or remove it"));
}

Image decode_image(std::span<const uint8_t> bytes) {
  return as_image([&](const Room& room) { decode_image(bytes, room); });
}

Image read_image(const std::filesystem::path& path) {
  return as_image([&](const Room& room) { read_image(path, room); });
}

void read_image(const std::filesystem::path& path, const Room& room) {
  const std::string bytes = engine::read_file(path);
  try {
    decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, room);
  } catch (const engine::Error& error) {
    throw engine::Error(text(path.string(), ": ", error.what()), error.where());
  }
}

namespace {
// The source pixels that make one destination pixel: from, from + 1, …
struct Taps {
  int from = 0;
  std::vector<float> weights;
};

std::vector<Taps> triangle_filter(int source, int destination) {
  const double scale = static_cast<double>(source) / destination, support = std::max(scale, 1.0);
  std::vector<Taps> out(static_cast<size_t>(destination));
  for (int d = 0; d < destination; ++d) {
    Taps& taps = out[static_cast<size_t>(d)];
    const double centre = (d + 0.5) * scale;
    taps.from = std::max(0, static_cast<int>(std::floor(centre - support)));
    const int to = std::min(source, static_cast<int>(std::ceil(centre + support)));
    std::vector<double> weights;
    double sum = 0;
    for (int s = taps.from; s < to; ++s) {
      weights.push_back(std::max(0.0, 1 - std::abs(s + 0.5 - centre) / support));
      sum += weights.back();
    }
    for (double w : weights) taps.weights.push_back(static_cast<float>(w / sum));
  }
  return out;
}

uint8_t rounded(float value) { return static_cast<uint8_t>(std::clamp(value + 0.5f, 0.f, 255.f)); }
}  // namespace

Image resized(const Image& image, int height, int width) {
  require_reasonable_size(height, width);
  if (height == image.height && width == image.width) return image;
  const int channels = image.channels;
  const auto columns = triangle_filter(image.width, width);
  const auto rows = triangle_filter(image.height, height);

  const size_t stride = static_cast<size_t>(width) * channels;
  std::vector<float> across(static_cast<size_t>(image.height) * stride);  // rows still to reduce
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < width; ++x) {
      const Taps& taps = columns[static_cast<size_t>(x)];
      float* to = across.data() + y * stride + static_cast<size_t>(x) * channels;
      const uint8_t* from =
          image.pixels.data() + (static_cast<size_t>(y) * image.width + taps.from) * channels;
      for (float w : taps.weights)
        for (int c = 0; c < channels; ++c) to[c] += w * static_cast<float>(*from++);
    }

  Image out{height, width, channels, std::vector<uint8_t>(height * stride)};
  std::vector<float> line(stride);
  for (int y = 0; y < height; ++y) {
    const Taps& taps = rows[static_cast<size_t>(y)];
    std::fill(line.begin(), line.end(), 0.f);
    const float* from = across.data() + taps.from * stride;
    for (float w : taps.weights)
      for (float& value : line) value += w * *from++;
    std::transform(line.begin(), line.end(), out.pixels.data() + y * stride, rounded);
  }
  return out;
}

const char* name_of(ResizeBy by) {
  return by == ResizeBy::both_sides ? "both-sides" : "shorter-side";
}

ResizeBy parse_resize_by(std::string_view name) {
  for (ResizeBy by : {ResizeBy::both_sides, ResizeBy::shorter_side})
    if (name == name_of(by)) return by;
  throw engine::UsageError(
      text("resizing is by both-sides or by shorter-side, got \"", name, "\""));
}

Image squared(const Image& image, int side, ResizeBy by) {
  if (by == ResizeBy::both_sides) return resized(image, side, side);
  const int64_t shorter = std::min(image.height, image.width);
  const auto scaled = [&](int64_t extent) { return static_cast<int>(side * extent / shorter); };
  const Image large = resized(image, scaled(image.height), scaled(image.width));
  const size_t top = static_cast<size_t>(engine::centred(large.height, side)),
               left = static_cast<size_t>(engine::centred(large.width, side)),
               bytes = static_cast<size_t>(side) * large.channels;
  Image out{side, side, large.channels, {}};
  for (size_t y = top; y < top + side; ++y) {
    const auto row = large.pixels.begin() +
                     static_cast<std::ptrdiff_t>((y * large.width + left) * large.channels);
    out.pixels.insert(out.pixels.end(), row, row + static_cast<std::ptrdiff_t>(bytes));
  }
  return out;
}

}  // namespace moat::data
