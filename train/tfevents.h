#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "train/append_file.h"

namespace moat::train {

// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as in RFC 3720 appendix B.4.
uint32_t crc32c(std::string_view bytes);

// The checksum TensorBoard's record format stores: rotated and offset, so that a checksum of
// bytes which contain checksums stays a good one.
uint32_t masked_crc32c(std::string_view bytes);

// One record: length uint64, its masked checksum, the data, its masked checksum; little endian.
std::string tfrecord(std::string_view data);

// The writer of one process: scalars as TensorBoard reads them, one event file
// events.out.tfevents.<seconds>.<host>.<process>.<number> per object. Every event is on disk when
// scalar() returns.
class TfEvents {
 public:
  // A run resumed at first_step > 0 says so in the file: TensorBoard then hides what an
  // interrupted process wrote at that step and later.
  explicit TfEvents(const std::filesystem::path& folder, int64_t first_step = 0);

  void scalar(std::string_view tag, int64_t step, double value);
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  AppendFile file_;
};

}  // namespace moat::train
