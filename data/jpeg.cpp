#include "data/jpeg.h"

#include <csetjmp>
#include <cstdio>

#include <jerror.h>
#include <jpeglib.h>

#include "engine/error.h"

namespace moat::data {

using engine::require;
using engine::text;

namespace {
constexpr int kMaxScans = 500;  // a progressive file has about ten; more only burn time

struct Failure : jpeg_error_mgr {
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* failure = static_cast<Failure*>(info->err);
  info->err->format_message(info, failure->message);
  std::longjmp(failure->back, 1);
}

// What cameras and other programs leave in files that every viewer shows: a version of JFIF that
// does not exist, and bytes between two segments.
bool is_harmless(int code) { return code == JWRN_JFIF_MAJOR || code == JWRN_EXTRANEOUS_DATA; }

void fail_on_warning(j_common_ptr info, int level) {
  if (level < 0 && !is_harmless(info->err->msg_code)) fail(info);
}

void limit_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  auto* failure = static_cast<Failure*>(info->err);
  std::snprintf(failure->message, sizeof(failure->message), "more than %d scans", kMaxScans);
  std::longjmp(failure->back, 1);
}

// libjpeg leaves by longjmp: only the two functions that call setjmp let it work, and they hold
// nothing with a destructor.
class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { jpeg_destroy_decompress(&info_); }

  bool open(std::span<const uint8_t> bytes) {
    info_.err = jpeg_std_error(&failure_);
    failure_.error_exit = fail;
    failure_.emit_message = fail_on_warning;
    if (setjmp(failure_.back)) return false;
    jpeg_create_decompress(&info_);
    progress_.progress_monitor = limit_scans;
    info_.progress = &progress_;
    jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  bool read(uint8_t* pixels) {
    if (setjmp(failure_.back)) return false;
    info_.out_color_space = is_cmyk() ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&info_);
    const size_t stride = static_cast<size_t>(info_.output_components) * info_.output_width;
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = pixels + stride * info_.output_scanline;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  bool is_cmyk() const {
    return info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
  }
  const jpeg_decompress_struct& info() const { return info_; }
  const char* message() const { return failure_.message; }

 private:
  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  Failure failure_{};
};
// Ink to light. Adobe's programs store 255 minus the ink, and say who they are.
void cmyk_to_rgb(const std::vector<uint8_t>& pixels, bool is_inverted, uint8_t* to) {
  const int flip = is_inverted ? 0 : 255;
  for (size_t i = 0; i < pixels.size(); i += 4) {
    const int light = pixels[i + 3] ^ flip;
    for (size_t c = 0; c < 3; ++c)
      *to++ = static_cast<uint8_t>(((pixels[i + c] ^ flip) * light + 127) / 255);
  }
}
}  // namespace

void decode_jpeg(std::span<const uint8_t> bytes, const Room& room) {
  Decoder decoder;
  const auto message = [&] { return text("damaged JPEG: ", decoder.message()); };
  require(decoder.open(bytes), message);
  const auto& info = decoder.info();
  require_reasonable_size(info.image_height, info.image_width, bytes.size());
  const auto space = info.jpeg_color_space;
  require(decoder.is_cmyk() || space == JCS_GRAYSCALE || space == JCS_YCbCr || space == JCS_RGB,
          "a JPEG must be gray, YCbCr, RGB, CMYK or YCCK, this one is something else: convert it");
  uint8_t* to = room(static_cast<int>(info.image_height), static_cast<int>(info.image_width));
  if (!decoder.is_cmyk()) return require(decoder.read(to), message);
  std::vector<uint8_t> inks(size_t{4} * info.image_height * info.image_width);
  require(decoder.read(inks.data()), message);
  cmyk_to_rgb(inks, info.saw_Adobe_marker != 0, to);
}

Image decode_jpeg(std::span<const uint8_t> bytes) {
  return as_image([&](const Room& room) { decode_jpeg(bytes, room); });
}

}  // namespace moat::data
