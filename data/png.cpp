#include "data/png.h"

#include <png.h>

#include <cstdio>
#include <cstring>
#include <ostream>

#include "engine/error.h"
#include "engine/io/file.h"

namespace moat::data {

using engine::require;
using engine::text;

namespace {
struct Message {
  char text[160] = {};
};

[[noreturn]] void fail(png_structp png, png_const_charp what) {
  auto* message = static_cast<Message*>(png_get_error_ptr(png));
  std::snprintf(message->text, sizeof(message->text), "%s", what);
  png_longjmp(png, 1);
}

void ignore(png_structp, png_const_charp) {}  // warnings concern chunks that are not read

void read_from_span(png_structp png, png_bytep to, size_t count) {
  auto* rest = static_cast<std::span<const uint8_t>*>(png_get_io_ptr(png));
  if (count > rest->size()) png_error(png, "the file ends early");
  std::memcpy(to, rest->data(), count);
  *rest = rest->subspan(count);
}

// libpng leaves by longjmp: only the functions that call setjmp let it work, and they hold nothing
// with a destructor.
class Decoder {
 public:
  explicit Decoder(std::span<const uint8_t> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, fail, ignore);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    require(info_ != nullptr, "libpng could not start");
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }

  bool open() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, &rest_, read_from_span);
    png_set_benign_errors(png_, 0);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours come after open()
    // Everything but IHDR, PLTE, tRNS, IDAT and IEND is skipped unread.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
    return true;
  }

  int64_t height() const { return png_get_image_height(png_, info_); }
  int64_t width() const { return png_get_image_width(png_, info_); }

  bool read(png_bytep* rows) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_expand(png_);
    png_set_scale_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != size_t{3} * png_get_image_width(png_, info_))
      png_error(png_, "unexpected pixel format");
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

  const char* message() const { return message_.text; }

 private:
  std::span<const uint8_t> rest_;
  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

void append_to_vector(png_structp png, png_bytep from, size_t count) {
  auto* to = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(png));
  bool stored = true;
  try {
    to->insert(to->end(), from, from + count);
  } catch (const std::bad_alloc&) {  // must not cross libpng's frames
    stored = false;
  }
  if (!stored) png_error(png, "out of memory");
}

class Encoder {
 public:
  Encoder() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &message_, fail, ignore);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    require(info_ != nullptr, "libpng could not start");
  }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() { png_destroy_write_struct(&png_, &info_); }

  bool write(std::vector<uint8_t>* to, int width, int height, int colour, const uint8_t* pixels,
             size_t stride) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_write_fn(png_, to, append_to_vector, nullptr);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), 8,
                 colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    for (int y = 0; y < height; ++y) png_write_row(png_, pixels + static_cast<size_t>(y) * stride);
    png_write_end(png_, nullptr);
    return true;
  }

  const char* message() const { return message_.text; }

 private:
  Message message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};
}  // namespace

void decode_png(std::span<const uint8_t> bytes, const Room& room) {
  Decoder decoder(bytes);
  const auto message = [&] { return text("damaged PNG: ", decoder.message()); };
  require(decoder.open(), message);
  const int64_t height = decoder.height(), width = decoder.width();
  require_reasonable_size(height, width, bytes.size());
  uint8_t* to = room(static_cast<int>(height), static_cast<int>(width));
  std::vector<png_bytep> rows(static_cast<size_t>(height));
  for (int64_t y = 0; y < height; ++y) rows[static_cast<size_t>(y)] = to + 3 * width * y;
  require(decoder.read(rows.data()), message);
}

Image decode_png(std::span<const uint8_t> bytes) {
  return as_image([&](const Room& room) { decode_png(bytes, room); });
}

std::vector<uint8_t> encode_png(int width, int height, int channels,
                                std::span<const uint8_t> pixels) {
  require(channels >= 1 && channels <= 4,
          [&] { return text("png: channels must be 1 to 4, got ", channels); });
  require_reasonable_size(height, width);
  const size_t stride = static_cast<size_t>(width) * channels;
  require(pixels.size() == stride * height, [&] {
    return text("png: ", width, "x", height, "x", channels, " needs ", stride * height,
                " bytes, got ", pixels.size());
  });
  const int colours[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                         PNG_COLOR_TYPE_RGB_ALPHA};
  std::vector<uint8_t> out;
  Encoder encoder;
  require(encoder.write(&out, width, height, colours[channels - 1], pixels.data(), stride),
          [&] { return text("png: cannot encode: ", encoder.message()); });
  return out;
}

void write_png(const std::filesystem::path& path, int width, int height, int channels,
               std::span<const uint8_t> pixels) {
  const std::vector<uint8_t> bytes = encode_png(width, height, channels, pixels);
  engine::write_file(path, [&](std::ostream& out) {
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  });
}

}  // namespace moat::data
