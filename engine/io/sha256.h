#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace moat::engine {

// SHA-256 (FIPS 180-4) of a stream of bytes: update() any number of times, then hex() once.
class Sha256 {
 public:
  void update(std::span<const uint8_t> bytes);
  std::string hex();  // 64 lower-case digits; ends the stream

 private:
  void compress(const uint8_t* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> block_;  // the first length_ % 64 bytes are waiting
  uint64_t length_ = 0;            // bytes seen
};

std::string sha256(std::span<const uint8_t> bytes);

}  // namespace moat::engine
