#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

#include <catch2/catch.hpp>
#include <optional>

#include "data/catalog.h"
#include "data/image.h"
#include "data/image_folder.h"
#include "data/jpeg.h"
#include "data/png.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
using Bytes = std::vector<uint8_t>;
namespace fs = std::filesystem;

namespace {
// Smooth, so that JPEG keeps it; different in every channel.
Image ramp(int height, int width, int channels, int offset = 0) {
  Image image{height, width, channels, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        image.pixels.push_back(static_cast<uint8_t>((offset + 3 * y + 2 * x + 40 * c) % 256));
  return image;
}

Bytes jpeg_of(const Image& image, J_COLOR_SPACE space, bool progressive = false) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = space;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  if (progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  Bytes pixels = image.pixels;
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = pixels.data() + info.next_scanline * static_cast<size_t>(image.width) *
                                       static_cast<size_t>(image.channels);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes out(buffer, buffer + size);
  std::free(buffer);
  return out;
}

struct PngForm {
  int width, height, depth, colour;
  int interlace = PNG_INTERLACE_NONE;
  std::vector<png_color> palette = {};
};

// `raw` holds the rows as the format packs them.
Bytes png_of(const PngForm& form, Bytes raw) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep from, size_t n) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(p));
        to->insert(to->end(), from, from + n);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(form.width),
               static_cast<png_uint_32>(form.height), form.depth, form.colour, form.interlace,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!form.palette.empty())
    png_set_PLTE(png, info, form.palette.data(), static_cast<int>(form.palette.size()));
  std::vector<png_bytep> rows;
  const size_t stride = raw.size() / static_cast<size_t>(form.height);
  for (int y = 0; y < form.height; ++y)
    rows.push_back(raw.data() + static_cast<size_t>(y) * stride);
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

Bytes png_of(const Image& image) {
  return encode_png(image.width, image.height, image.channels, image.pixels);
}

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

TEST_CASE("jpeg: colour, gray, progressive; CMYK is refused", "[image]") {
  const Image colour = ramp(19, 33, 3), gray = ramp(19, 33, 1);
  for (bool progressive : {false, true}) {
    // Quality 95 with halved chroma: a smooth ramp comes back within a few steps.
    CHECK(largest_difference(decode_jpeg(jpeg_of(colour, JCS_RGB, progressive)).pixels,
                             colour.pixels) < 12);
    CHECK(largest_difference(decode_jpeg(jpeg_of(gray, JCS_GRAYSCALE, progressive)).pixels,
                             gray_as_rgb(gray.pixels)) < 5);
  }
  CHECK(decode_jpeg(jpeg_of(ramp(1, 1, 3), JCS_RGB)).pixels.size() == 3);
  CHECK_THROWS_WITH(decode_jpeg(jpeg_of(ramp(8, 8, 4), JCS_CMYK)), Contains("CMYK"));
}

TEST_CASE("image files: every truncation is an error", "[image][hostile]") {
  const Image image = ramp(24, 20, 3);
  for (const Bytes& whole :
       {jpeg_of(image, JCS_RGB), jpeg_of(image, JCS_RGB, true), png_of(image)}) {
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
  for (const Bytes& whole : {jpeg_of(image, JCS_RGB), jpeg_of(image, JCS_RGB, true), png})
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

TEST_CASE("imagefolder: classes, ids, splits and order", "[image][folder]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  // 12 files of class a, 13 of b, in train/: ids 0 … 11 and 12 … 24; 9 and 19 are held out.
  const auto name = [](int i) { return std::string(1, static_cast<char>('a' + i)); };
  for (int i = 0; i < 12; ++i)
    put_file(root / "train/a" / (name(i) + ".png"), png_of(ramp(4, 6, 3, i)));
  for (int i = 0; i < 13; ++i)
    put_file(root / "train/b" / (name(i) + (i % 2 ? ".JPG" : ".jpeg")),
             jpeg_of(ramp(4, 6, i % 3 ? 3 : 1, i), i % 3 ? JCS_RGB : JCS_GRAYSCALE));
  put_file(root / "train/a/.hidden.png", {});
  put_file(root / "train/a/notes.txt", {});
  put_file(root / "test/b/z.png", png_of(ramp(4, 6, 3)));

  const ImageSet train = image_folder(root, Split::train),
                 validation = image_folder(root, Split::validation),
                 test = image_folder(root, Split::test);
  validate(train), validate(validation), validate(test);
  CHECK(train.class_names == std::vector<std::string>{"a", "b"});
  CHECK(train.size() == 23);
  CHECK(train.height == 4);
  CHECK(train.width == 6);
  CHECK(std::vector(train.ids.begin(), train.ids.begin() + 5) ==
        std::vector<int32_t>{0, 12, 1, 13, 2});
  CHECK(std::vector(train.labels.begin(), train.labels.begin() + 4) ==
        std::vector<int32_t>{0, 1, 0, 1});
  CHECK(Bytes(train.image(2).begin(), train.image(2).end()) == ramp(4, 6, 3, 1).pixels);
  CHECK(validation.ids == std::vector<int32_t>{9, 19});
  CHECK(validation.labels == std::vector<int32_t>{0, 1});
  CHECK(test.labels == std::vector<int32_t>{1});

  const ImageSet some = load({.name = "imagefolder", .path = root, .limit = 5}, Split::train);
  CHECK(some.size() == 5);
  CHECK(some.pixels == first_rows(train, 5).pixels);
  CHECK(some.ids == first_rows(train, 5).ids);

  put_file(root / "val/a/v.png",
           png_of(ramp(4, 6, 3)));  // a validation folder ends the holding out
  CHECK(image_folder(root, Split::train).size() == 25);
  CHECK(image_folder(root, Split::validation).size() == 1);
  fs::create_directory(root / "validation");
  CHECK_THROWS_WITH(image_folder(root, Split::validation), Contains("both"));
}

TEST_CASE("imagefolder: one size, or resized", "[image][folder]") {
  const TemporaryFolder folder;
  put_file(folder.path() / "test/a/1.png", png_of(ramp(4, 4, 3)));
  put_file(folder.path() / "test/a/2.png", png_of(ramp(4, 5, 3)));
  CHECK_THROWS_WITH(image_folder(folder.path(), Split::test),
                    Contains("2.png") && Contains("data.resize"));
  const ImageSet set = image_folder(folder.path(), Split::test, {.resize = 3});
  CHECK(set.size() == 2);
  CHECK(set.height == 3);
  CHECK(Bytes(set.image(1).begin(), set.image(1).end()) == resized(ramp(4, 5, 3), 3, 3).pixels);
}

TEST_CASE("imagefolder refuses what it cannot read, naming it", "[image][folder]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  const DataConfig config{.name = "imagefolder", .path = root};
  CHECK_THROWS_WITH(load(config, Split::train), Contains("must hold the folder train/"));
  fs::create_directories(root / "train");
  CHECK_THROWS_WITH(load(config, Split::train), Contains("a folder of images per class"));
  fs::create_directories(root / "train/empty one");
  CHECK_THROWS_WITH(load(config, Split::train), Contains("empty one") && Contains("holds no"));
  fs::remove(root / "train/empty one");

  for (int i = 0; i < 300; ++i)
    put_file(root / "train/a" / (std::to_string(1000 + i) + ".png"), png_of(ramp(3, 3, 3, i)));
  CHECK(load(config, Split::train).size() == 270);
  // Of several damaged files the first one is named, whatever the threads do.
  for (int i : {1150, 1151, 1152, 1295})
    put_file(root / "train/a" / (std::to_string(i) + ".png"),
             Bytes(i % 2 ? size_t{4} << 20 : size_t{40}, 'x'));
  for (int repeat = 0; repeat < 10; ++repeat)
    CHECK_THROWS_WITH(load(config, Split::train), Contains("1150.png: neither"));

  put_file(root / "test/stranger/1.png", png_of(ramp(3, 3, 3)));
  CHECK_THROWS_WITH(load(config, Split::test), Contains("stranger") && Contains("train/ lacks"));
}

}  // namespace moat::tests
