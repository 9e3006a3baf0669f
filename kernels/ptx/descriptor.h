#pragma once

// How wgmma finds a matrix in shared memory: the bits of its descriptor, and for each swizzle the
// place of an element. Plain functions, so that the interpreter and the tests read the same ones.
//
// The matrix is rows (m or n) x k of 16-bit elements, stored along k (Major::k) or along its rows
// (Major::mn) in bricks of 8 lines; a line holds the swizzle's width in bytes (128; 16 without
// one). PTX ISA, "Asynchronous warpgroup level matrix shared memory layout".

#include <cstdint>

#include "kernels/cuda/tensor_map.h"

namespace moat::kernels::ptx {

enum class Major : int { k = 0, mn = 1 };

// Bytes, multiples of 16 below 2^18.
//   Major::k, swizzled: `stride` from 8 rows to the next 8; `leading` is not used.
//   Major::k, plain: also `leading` from 8 elements of k to the next 8.
//   Major::mn, swizzled: `stride` from 8 k to the next 8 k, `leading` from one line's worth of rows
//   (64) to the next.
//   Major::mn, plain: the two change places.
struct Descriptor {
  uint32_t address = 0;  // shared_address of the first element
  uint32_t leading = 0;
  uint32_t stride = 0;
  Swizzle swizzle = Swizzle::none;
};

constexpr uint64_t encode(const Descriptor& d) {
  const auto field = [](uint32_t bytes) { return uint64_t{(bytes & 0x3ffff) >> 4}; };
  const uint64_t layout = d.swizzle == Swizzle::none ? 0 : 1;
  return field(d.address) | field(d.leading) << 16 | field(d.stride) << 32 | layout << 62;
}

constexpr Descriptor decode(uint64_t bits) {
  const auto bytes = [](uint64_t field) { return static_cast<uint32_t>(field & 0x3fff) << 4; };
  return {bytes(bits), bytes(bits >> 16), bytes(bits >> 32),
          bits >> 62 == 0 ? Swizzle::none : Swizzle::b128};
}

// A tile stored as TMA stores a box of `swizzle_width(swizzle)` bytes by n rows: its address, which
// may stand 32, 64, … bytes into the first line (the next 16 of k) when the tile is aligned.
constexpr uint64_t k_major(uint32_t address, Swizzle swizzle) {
  return encode({address, 16, 8 * swizzle_width(swizzle), swizzle});
}
// A tile of k lines, each a swizzle's width of rows; `next_rows` bytes further the next rows'
// lines.
constexpr uint64_t mn_major(uint32_t address, Swizzle swizzle, uint32_t next_rows) {
  return encode({address, next_rows, 8 * swizzle_width(swizzle), swizzle});
}

// Shared address of element (row, k), 16-bit elements.
constexpr uint32_t element_address(const Descriptor& d, Major major, int row, int k) {
  const uint32_t width = swizzle_width(d.swizzle), per_line = width / 2;
  const uint32_t r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(k);
  if (d.swizzle == Swizzle::none) {
    if (major == Major::k)
      return d.address + r / 8 * d.stride + c / 8 * d.leading + r % 8 * 16 + c % 8 * 2;
    return d.address + r / 8 * d.stride + c / 8 * d.leading + c % 8 * 16 + r % 8 * 2;
  }
  const uint32_t plain = major == Major::k ? r / 8 * d.stride + r % 8 * width + c * 2
                                           : r / per_line * d.leading + c / 8 * d.stride +
                                                 c % 8 * width + r % per_line * 2;
  return swizzled(d.address + plain, d.swizzle);
}

}  // namespace moat::kernels::ptx
