#include "data/digits.h"

#include <zlib.h>

#include <charconv>

extern const unsigned char moat_data_digits[];  // digits.csv.gz, embedded by the build
extern const unsigned long moat_data_digits_size;

namespace moat::data {

using engine::require;

namespace {
constexpr int kSide = 8, kPixels = kSide * kSide, kMaxValue = 16;

std::string gunzip(std::span<const uint8_t> bytes) {
  z_stream stream{};
  require(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "digits: zlib could not start");
  stream.next_in = const_cast<Bytef*>(bytes.data());  // zlib only reads it
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  int state = Z_OK;
  while (state == Z_OK) {
    char piece[1 << 14];
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof(piece);
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(piece, sizeof(piece) - stream.avail_out);
  }
  inflateEnd(&stream);
  require(state == Z_STREAM_END, "digits: the bundled file is damaged");
  return out;
}

Split split_of(int32_t row) {
  return row % 5 == 4 ? Split::test : row % 5 == 3 ? Split::validation : Split::train;
}

// One number followed by `end`; advances p.
uint8_t number(const char*& p, const char* last, char end) {
  uint8_t value = 0;
  const auto [stop, error] = std::from_chars(p, last, value);
  require(error == std::errc{} && stop != last && *stop == end, "digits: a damaged line");
  p = stop + 1;
  return value;
}
}  // namespace

ImageSet digits(Split split) {
  ImageSet out{.height = kSide,
               .width = kSide,
               .channels = 1,
               .max_value = kMaxValue,
               .class_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
               .name = "digits",
               .split = split};
  std::vector<uint8_t> pixels;
  const std::string csv = gunzip({moat_data_digits, moat_data_digits_size});
  const char *p = csv.data(), *last = p + csv.size();
  for (int32_t row = 0; p != last; ++row) {
    uint8_t image[kPixels];
    for (uint8_t& pixel : image) pixel = number(p, last, ',');
    const int32_t label = number(p, last, '\n');
    if (split_of(row) != split) continue;
    pixels.insert(pixels.end(), image, image + kPixels);
    out.labels.push_back(label);
    out.ids.push_back(row);
  }
  out.pixels = std::move(pixels);
  return out;
}

}  // namespace moat::data
