#include <zlib.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <random>

#include "data/image.h"
#include "data/jpeg.h"
#include "data/png.h"
#include "engine/error.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
int largest_difference(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  int most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

Bytes gray_as_rgb(const Bytes& gray) {
  Bytes out;
  for (uint8_t v : gray) out.insert(out.end(), 3, v);
  return out;
}

void put_big_endian(Bytes& bytes, size_t at, uint32_t value, int count) {
  for (int i = 0; i < count; ++i)
    bytes[at + static_cast<size_t>(i)] = static_cast<uint8_t>(value >> (8 * (count - 1 - i)));
}

// An IHDR that claims this size, with the checksum it needs.
Bytes claiming(Bytes png, uint32_t width, uint32_t height) {
  put_big_endian(png, 16, width, 4);
  put_big_endian(png, 20, height, 4);
  put_big_endian(png, 29, static_cast<uint32_t>(crc32(0, png.data() + 12, 17)), 4);
  return png;
}

// A decoder may refuse or, where the format has no checksum, give other pixels; nothing else.
void must_survive(const Bytes& bytes) {
  try {
    const Image image = decode_image(bytes);
    REQUIRE(image.pixels.size() == size_t{3} * image.height * image.width);
  } catch (const engine::Error& error) {
    REQUIRE(std::string(error.what()).find('\n') == std::string::npos);
  }
}
}  // namespace

TEST_CASE("png: what is written is read", "[image]") {
  for (auto [height, width] : {std::pair{1, 1}, {3, 5}, {17, 64}}) {
    const Image colour = ramp(height, width, 3), gray = ramp(height, width, 1),
                alpha = ramp(height, width, 4), gray_alpha = ramp(height, width, 2);
    CHECK(decode_png(png_of(colour)).pixels == colour.pixels);
    CHECK(decode_png(png_of(gray)).pixels == gray_as_rgb(gray.pixels));
    Bytes opaque, opaque_gray;
    for (size_t i = 0; i < alpha.pixels.size(); ++i)
      if (i % 4 != 3) opaque.push_back(alpha.pixels[i]);
    for (size_t i = 0; i < gray_alpha.pixels.size(); i += 2)
      opaque_gray.insert(opaque_gray.end(), 3, gray_alpha.pixels[i]);
    CHECK(decode_png(png_of(alpha)).pixels == opaque);
    CHECK(decode_png(png_of(gray_alpha)).pixels == opaque_gray);
  }
  CHECK(png_of(ramp(9, 9, 3)) == png_of(ramp(9, 9, 3)));
  CHECK_THROWS_WITH(encode_png(2, 2, 5, Bytes(20)), Contains("channels"));
  CHECK_THROWS_WITH(encode_png(2, 2, 3, Bytes(11)), Contains("12 bytes"));
  CHECK_THROWS_WITH(encode_png(0, 2, 3, {}), Contains("sides"));

  const TemporaryFolder folder;
  write_png(folder.path() / "a.png", 5, 3, 3, ramp(3, 5, 3).pixels);
  CHECK(read_image(folder.path() / "a.png").pixels == ramp(3, 5, 3).pixels);
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
  CHECK_THROWS_WITH(write_png(folder.path() / "no" / "a.png", 1, 1, 1, Bytes(1)),
                    Contains("cannot write"));
}

TEST_CASE("png: palette, 1 and 16 bits, interlaced", "[image]") {
  const std::vector<png_color> palette = {{1, 2, 3}, {40, 50, 60}, {255, 0, 9}};
  CHECK(decode_png(png_of({.width = 3,
                           .height = 1,
                           .depth = 8,
                           .colour = PNG_COLOR_TYPE_PALETTE,
                           .palette = palette},
                          {2, 0, 1}))
            .pixels == Bytes{255, 0, 9, 1, 2, 3, 40, 50, 60});
  CHECK(decode_png(png_of({.width = 4, .height = 1, .depth = 1, .colour = PNG_COLOR_TYPE_GRAY},
                          {0b10110000}))
            .pixels == gray_as_rgb({255, 0, 255, 255}));

  Bytes deep, expected;  // every 16-bit value
  for (int v = 0; v < 65536; ++v) {
    deep.push_back(static_cast<uint8_t>(v >> 8));
    deep.push_back(static_cast<uint8_t>(v & 255));
    expected.insert(expected.end(), 3, static_cast<uint8_t>((v + 128) / 257));
  }
  CHECK(decode_png(
            png_of({.width = 256, .height = 256, .depth = 16, .colour = PNG_COLOR_TYPE_GRAY}, deep))
            .pixels == expected);

  const Image image = ramp(13, 11, 3);
  CHECK(decode_png(png_of({.width = 11,
                           .height = 13,
                           .depth = 8,
                           .colour = PNG_COLOR_TYPE_RGB,
                           .interlace = PNG_INTERLACE_ADAM7},
                          image.pixels))
            .pixels == image.pixels);
}

TEST_CASE("png: every colour type and depth, interlaced or not", "[image]") {
  const int width = 13, height = 9;
  std::mt19937 random(7);
  const auto drawn = [&](int top) { return static_cast<int>(random() % (top + 1u)); };
  std::vector<png_color> palette(256);
  for (png_color& c : palette)
    c = {static_cast<png_byte>(drawn(255)), static_cast<png_byte>(drawn(255)),
         static_cast<png_byte>(drawn(255))};
  struct Kind {
    int colour, channels, shown;  // shown: of the channels, those that are not alpha
    std::vector<int> depths;
  };
  for (const Kind& kind : {Kind{PNG_COLOR_TYPE_GRAY, 1, 1, {1, 2, 4, 8, 16}},
                           {PNG_COLOR_TYPE_PALETTE, 1, 1, {1, 2, 4, 8}},
                           {PNG_COLOR_TYPE_GRAY_ALPHA, 2, 1, {8, 16}},
                           {PNG_COLOR_TYPE_RGB, 3, 3, {8, 16}},
                           {PNG_COLOR_TYPE_RGB_ALPHA, 4, 3, {8, 16}}})
    for (int depth : kind.depths)
      for (int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7})
        for (bool transparent : {false, true}) {
          const bool has_palette = kind.colour == PNG_COLOR_TYPE_PALETTE;
          const int top = (1 << depth) - 1;
          Bytes raw, expected;
          for (int y = 0; y < height; ++y) {
            unsigned bits = 0;
            int waiting = 0;
            for (int x = 0; x < width; ++x)
              for (int c = 0; c < kind.channels; ++c) {
                const int v = drawn(top);
                bits = bits << depth | static_cast<unsigned>(v), waiting += depth;
                for (; waiting >= 8; waiting -= 8)
                  raw.push_back(static_cast<uint8_t>(bits >> (waiting - 8)));
                if (c >= kind.shown) continue;
                const png_color& entry = palette[static_cast<size_t>(v) % palette.size()];
                const auto level = static_cast<uint8_t>(std::lround(v * 255.0 / top));
                if (has_palette)
                  expected.insert(expected.end(), {entry.red, entry.green, entry.blue});
                else
                  expected.insert(expected.end(), kind.shown == 1 ? 3 : 1, level);
              }
            if (waiting > 0) raw.push_back(static_cast<uint8_t>(bits << (8 - waiting)));
          }
          CAPTURE(kind.colour, depth, interlace, transparent);
          const bool may_be = transparent && kind.channels == kind.shown;  // else there is alpha
          PngForm form{width, height, depth, kind.colour, interlace, {}, may_be};
          if (has_palette) form.palette.assign(palette.begin(), palette.begin() + top + 1);
          CHECK(decode_png(png_of(form, raw)).pixels == expected);
        }
}

TEST_CASE("jpeg: CMYK and YCCK, inverted where Adobe says so", "[image]") {
  // Quality 95: a product of two channels, each a few steps off.
  const Image stored = ramp(24, 16, 4);
  for (bool adobe_marker : {true, false})
    for (bool progressive : {false, true}) {
      Bytes expected;
      for (size_t i = 0; i < stored.pixels.size(); i += 4)
        for (size_t c = 0; c < 3; ++c) {
          const double a = stored.pixels[i + c], k = stored.pixels[i + 3];
          const double light = adobe_marker ? a * k / 255 : (255 - a) * (255 - k) / 255;
          expected.push_back(static_cast<uint8_t>(std::lround(light)));
        }
      const Bytes file = jpeg_of(stored, JCS_CMYK, {progressive, JCS_CMYK, adobe_marker});
      CHECK(largest_difference(decode_jpeg(file).pixels, expected) < 8);
      if (!adobe_marker) continue;  // without it nobody can tell YCCK from CMYK
      const Bytes ycck = jpeg_of(stored, JCS_CMYK, {progressive, JCS_YCCK});
      CHECK(largest_difference(decode_jpeg(ycck).pixels, expected) < 16);
    }
  const Image flat{1, 1, 4, {255, 128, 0, 255}};  // ends of the scale are exact
  const Image read = decode_jpeg(jpeg_of(flat, JCS_CMYK));
  CHECK(read.pixels[0] == 255);
  CHECK(read.pixels[2] == 0);
}

TEST_CASE("jpeg: what cannot harm the pixels is forgiven", "[image]") {
  const Image image = ramp(16, 16, 3);
  const Bytes plain = jpeg_of(image, JCS_RGB);
  Bytes version = plain, extraneous = plain;
  REQUIRE(version[11] == 1);  // JFIF's major version
  version[11] = 9;
  CHECK(decode_jpeg(version).pixels == decode_jpeg(plain).pixels);
  extraneous.insert(extraneous.end() - 2, {1, 2, 3});
  CHECK(decode_jpeg(extraneous).pixels == decode_jpeg(plain).pixels);
  Bytes cut = plain;
  cut.erase(cut.end() - 20, cut.end() - 2);  // the end marker comes early
  CHECK_THROWS_WITH(decode_jpeg(cut), Contains("damaged JPEG: "));
}

TEST_CASE("jpeg: colour, gray, progressive", "[image]") {
  const Image colour = ramp(19, 33, 3), gray = ramp(19, 33, 1);
  for (bool progressive : {false, true}) {
    // Quality 95 with halved chroma: a smooth ramp comes back within a few steps.
    CHECK(largest_difference(decode_jpeg(jpeg_of(colour, JCS_RGB, {progressive})).pixels,
                             colour.pixels) < 12);
    CHECK(largest_difference(decode_jpeg(jpeg_of(gray, JCS_GRAYSCALE, {progressive})).pixels,
                             gray_as_rgb(gray.pixels)) < 5);
  }
  CHECK(decode_jpeg(jpeg_of(ramp(1, 1, 3), JCS_RGB)).pixels.size() == 3);
  Image other = ramp(8, 8, 2);
  CHECK_THROWS_WITH(decode_jpeg(jpeg_of(other, JCS_UNKNOWN)), Contains("something else"));
}

TEST_CASE("image files: every truncation is an error", "[image][hostile]") {
  const Image image = ramp(24, 20, 3);
  for (const Bytes& whole :
       {jpeg_of(image, JCS_RGB), jpeg_of(image, JCS_RGB, {.progressive = true}),
        jpeg_of(ramp(24, 20, 4), JCS_CMYK), png_of(image)}) {
    CHECK_NOTHROW(decode_image(whole));
    for (size_t length = 0; length < whole.size(); length += length < 64 ? 1 : 3) {
      CAPTURE(length, whole.size());
      REQUIRE_THROWS_AS(decode_image(std::span(whole).first(length)), engine::Error);
    }
    for (size_t missing = 1; missing < 4; ++missing)
      REQUIRE_THROWS_AS(decode_image(std::span(whole).first(whole.size() - missing)),
                        engine::Error);
  }
}

TEST_CASE("image files: no flipped byte does harm", "[image][hostile]") {
  const Image image = ramp(24, 20, 3);
  const Bytes png = png_of(image);
  for (const Bytes& whole :
       {jpeg_of(image, JCS_RGB), jpeg_of(image, JCS_RGB, {.progressive = true}),
        jpeg_of(ramp(24, 20, 4), JCS_CMYK), png})
    for (size_t at = 0; at < whole.size(); ++at)
      for (int flip : {0x01, 0x80, 0xff}) {
        Bytes bytes = whole;
        bytes[at] ^= static_cast<uint8_t>(flip);
        must_survive(bytes);
      }
  for (size_t at = 8; at < png.size(); ++at) {  // PNG has checksums: pixels are right or refused
    Bytes bytes = png;
    bytes[at] ^= 0x10;
    std::optional<Image> read;
    try {
      read = decode_png(bytes);
    } catch (const engine::Error&) {
    }
    if (read) REQUIRE(read->pixels == image.pixels);
  }
}

TEST_CASE("image files: a claimed size costs nothing", "[image][hostile]") {
  Bytes jpeg = jpeg_of(ramp(8, 8, 3), JCS_RGB);
  size_t frame = 0;
  while (!(jpeg[frame] == 0xff && jpeg[frame + 1] == 0xc0)) ++frame;
  put_big_endian(jpeg, frame + 5, 60000, 2);
  put_big_endian(jpeg, frame + 7, 60000, 2);
  CHECK_THROWS_WITH(decode_image(jpeg), Contains("60000x60000"));

  const Bytes png = png_of(ramp(8, 8, 3));
  CHECK_NOTHROW(decode_image(claiming(png, 8, 8)));
  CHECK_THROWS_WITH(decode_image(claiming(png, 60000, 60000)), Contains("60000x60000"));
  CHECK_THROWS_WITH(decode_image(claiming(png, 16385, 1)), Contains("16384"));
  CHECK_THROWS_WITH(decode_image(claiming(png, 16384, 16384)), Contains("pixels"));
  CHECK_THROWS_WITH(decode_image(claiming(png, 16384, 4096)), Contains("pixels per byte"));
  CHECK_THROWS_AS(decode_image(claiming(png, 0, 8)), engine::Error);
  CHECK_THROWS_AS(decode_image(claiming(png, 0xffffffff, 0xffffffff)), engine::Error);
  CHECK_THROWS_WITH(decode_image({}), Contains("neither"));
}

TEST_CASE("resized: constants, ramps, means and identity", "[image]") {
  const Image image = ramp(12, 10, 3);
  CHECK(resized(image, 12, 10).pixels == image.pixels);
  const Image flat{5, 7, 1, Bytes(35, 93)};
  for (int side : {1, 2, 6, 40})
    CHECK(resized(flat, side, side).pixels == Bytes(static_cast<size_t>(side * side), 93));
  // Twice as wide: centres at -1/4, 1/4, 3/4, 5/4 of the two pixels, the edge repeated.
  CHECK(resized({1, 2, 1, {0, 100}}, 1, 4).pixels == Bytes{0, 25, 75, 100});
  // Half as wide: triangle of half-width 2 around x = 1 and x = 3, cut at the edge.
  CHECK(resized({1, 4, 1, {10, 20, 30, 40}}, 1, 2).pixels == Bytes{17, 33});
  CHECK(resized({4, 1, 1, {10, 20, 30, 40}}, 2, 1).pixels == Bytes{17, 33});
  CHECK_THROWS_WITH(resized(flat, 0, 4), Contains("sides"));
}

}  // namespace moat::tests
