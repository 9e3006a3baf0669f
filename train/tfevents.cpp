#include "train/tfevents.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>

#include "engine/error.h"

namespace moat::train {

namespace {

constexpr auto kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xff);
  return bytes;
}

// Protocol buffer fields: key = number << 3 | wire type (0 varint, 1 64-bit, 2 bytes, 5 32-bit).
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes += static_cast<char>(value);
}

std::string integer_field(uint32_t number, int64_t value) {
  return varint(number << 3 | 0u) + varint(static_cast<uint64_t>(value));
}

std::string double_field(uint32_t number, double value) {
  return varint(number << 3 | 1u) + little_endian(std::bit_cast<uint64_t>(value));
}

std::string bytes_field(uint32_t number, std::string_view value) {
  return varint(number << 3 | 2u) + varint(value.size()) + std::string(value);
}

std::string float_field(uint32_t number, float value) {
  return varint(number << 3 | 5u) + little_endian(std::bit_cast<uint32_t>(value));
}

// message Event { double wall_time = 1; int64 step = 2; oneof what { string file_version = 3;
// Summary summary = 5; SessionLog session_log = 7; } }
std::string event(int64_t step, const std::string& what) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return double_field(1, std::chrono::duration<double>(now).count()) + integer_field(2, step) +
         what;
}

std::filesystem::path file_in(const std::filesystem::path& folder) {
  static std::atomic<int> number{0};  // two writers of one process in the same second
  char host[256] = "host";
  if (::gethostname(host, sizeof host) != 0 || host[0] == '\0') host[0] = '-', host[1] = '\0';
  host[sizeof host - 1] = '\0';
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return folder / engine::text("events.out.tfevents.",
                               std::chrono::duration_cast<std::chrono::seconds>(now).count(), ".",
                               host, ".", ::getpid(), ".", number++);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

std::string tfrecord(std::string_view data) {
  const std::string length = little_endian(uint64_t{data.size()});
  return length + little_endian(masked_crc32c(length)) + std::string(data) +
         little_endian(masked_crc32c(data));
}

TfEvents::TfEvents(const std::filesystem::path& folder, int64_t first_step)
    : file_(file_in(folder)) {
  constexpr uint32_t kFileVersion = 3, kSessionLog = 7, kStatus = 1;
  constexpr int64_t kStart = 1;
  file_.write(tfrecord(event(0, bytes_field(kFileVersion, "brain.Event:2"))));
  if (first_step > 0)
    file_.write(
        tfrecord(event(first_step, bytes_field(kSessionLog, integer_field(kStatus, kStart)))));
}

void TfEvents::scalar(std::string_view tag, int64_t step, double value) {
  constexpr uint32_t kSummary = 5, kValue = 1, kTag = 1, kSimpleValue = 2;
  const std::string entry =
      bytes_field(kTag, tag) + float_field(kSimpleValue, static_cast<float>(value));
  file_.write(tfrecord(event(step, bytes_field(kSummary, bytes_field(kValue, entry)))));
}

}  // namespace moat::train
