// As the bytes are, and with the checksum of every chunk made right, which mutations break first.
#include "data/png.h"

#include <zlib.h>

#include <vector>

#include "tests/fuzz/reader.h"

namespace {

// A PNG is 8 bytes, then chunks of length, name, data and CRC-32 of name and data (big-endian).
std::vector<uint8_t> with_checksums(std::vector<uint8_t> png) {
  constexpr size_t kSignature = 8, kFrame = 12;
  const auto number = [&](size_t at) {
    return size_t{png[at]} << 24 | png[at + 1] << 16 | png[at + 2] << 8 | png[at + 3];
  };
  for (size_t at = kSignature; at + kFrame <= png.size();) {
    const size_t length = number(at);
    if (length > png.size() - at - kFrame) break;
    const auto crc = crc32(0, png.data() + at + 4, static_cast<uInt>(length + 4));
    for (size_t i = 0; i < 4; ++i)
      png[at + 8 + length + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
    at += kFrame + length;
  }
  return png;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  fuzz::may_refuse([&] { data::decode_png({bytes, size}); });
  return fuzz::may_refuse([&] { data::decode_png(with_checksums({bytes, bytes + size})); });
}
