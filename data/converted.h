#pragma once

#include <filesystem>
#include <functional>
#include <span>

#include "data/source.h"

namespace moat::data {

// A data set in one file, whose pixels are used where they lie. In order:
//   "moatset\n", the length of the header as little-endian uint64, the header as JSON: format (1),
//   name, height, width, channels, max_value, classes (their names), splits (name and images of
//   train, validation and test);
//   for each split its pixels [images, height, width, channels], labels and ids (int32,
//   little-endian), each beginning at a multiple of 4096 bytes, zeros in between and at the end;
//   the SHA-256 of all of this as 64 hexadecimal digits.

// Told of the images written so far and of those there will be.
using Watcher = std::function<void(int64_t done, int64_t total)>;

// Writes the splits train, validation and test, a few rows at a time. The same rows give the same
// bytes. Throws when the file exists, when the splits have other classes, sizes or no images, and
// as write_file() does; then nothing is left.
void write_converted(const std::filesystem::path& file, std::span<const Source> splits,
                     const Watcher& watcher);

// Maps the file, checks its header and length and calls validate(), which reads the labels but
// pixels only where max_value is below 255. Throws on whatever is not as above.
ImageSet read_converted(const std::filesystem::path& file, Split split);

// The same of bytes that the caller keeps; errors begin with `origin`.
ImageSet decode_converted(std::span<const uint8_t> bytes, const std::string& origin, Split split);

// Throws when the file's checksum is not that of its content: reads all of it.
void verify_converted(const std::filesystem::path& file);

}  // namespace moat::data
