#pragma once

// What TMA needs to know of a tensor in global memory: made on the host, passed to a kernel by
// value as `const __grid_constant__ TensorMap`, its address to the TMA functions of
// kernels/ptx.cuh.

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// CUDA's CUtensorMap: 128 bytes that only the driver reads.
struct alignas(128) TensorMap {
  uint64_t opaque[16];
};

// 16-byte pieces of a line of 128 bytes change places with the line's number, so that eight lines'
// pieces of one column lie in different banks. The driver's numbers.
enum class Swizzle : uint8_t { none = 0, b128 = 3 };

// Bytes of a line of the pattern; without a swizzle, of one piece.
constexpr uint32_t swizzle_width(Swizzle swizzle) { return 16u << static_cast<uint32_t>(swizzle); }

// Where the byte at this shared address is moved: piece bits 4… are exclusive-ored with line bits
// 7….
constexpr uint32_t swizzled(uint32_t address, Swizzle swizzle) {
  return address ^ ((address >> 7 & (swizzle_width(swizzle) / 16 - 1)) << 4);
}

// A row-major tensor of bf16, of rank 2 to 4, and the box that one copy moves. Axis 0 is the
// innermost, and contiguous.
struct TiledTensor {
  static constexpr int kMostRank = 4;
  const void* base = nullptr;  // device memory, aligned to 16
  int rank = 2;
  int64_t extents[kMostRank] = {1, 1, 1, 1};  // elements, 1 … 2^32
  int64_t strides[kMostRank] = {};  // bytes; [1] and up: multiples of 16 below 2^40; [0] is ignored
  int box[kMostRank] = {1, 1, 1, 1};  // elements, 1 … 256; box[0] a multiple of 16 bytes, with a
                                      // swizzle exactly its width
  Swizzle swizzle = Swizzle::none;
};

// bad_args when something above does not hold, unsupported when the driver has no TMA.
Status make_tensor_map(TensorMap* map, const TiledTensor& tensor);

// Images [n, height, width, channels] of bf16 without gaps, of which one copy brings `box_pixels`
// pixels, with `box_channels` of their channels each: those that a walk meets from a given one on.
// It goes through all images; in each, `rows` rows from `first_y` on, `stride` apart, and in these
// `columns` pixels from `first_x` on, `stride` apart, which may lie outside the image. A copy may
// move all of its pixels by up to 255 right and down (the taps of a convolution). TMA's im2col
// mode.
struct WalkedImages {
  const void* base = nullptr;               // device memory, aligned to 16
  int64_t n = 1;                            // images
  int height = 1, width = 1, channels = 8;  // channels a multiple of 8
  int first_x = 0, first_y = 0, columns = 1, rows = 1, stride = 1;
  int box_channels = 64, box_pixels = 64;  // 1 … 256 each; box_channels exactly the swizzle's width
  Swizzle swizzle = Swizzle::b128;

  // From the image's last column and row to the walk's.
  constexpr int64_t right() const { return first_x + int64_t{columns - 1} * stride - (width - 1); }
  constexpr int64_t bottom() const { return first_y + int64_t{rows - 1} * stride - (height - 1); }
};

// The walk's corners are within -128 … 127 of the image's, its stride is 1 to 8. bad_args when that
// or something above does not hold, unsupported when the driver has no TMA.
Status make_tensor_map(TensorMap* map, const WalkedImages& images);

inline bool is_encodable(const TiledTensor& t) {
  if (t.base == nullptr || reinterpret_cast<uintptr_t>(t.base) % 16 != 0) return false;
  if (t.rank < 2 || t.rank > TiledTensor::kMostRank) return false;
  for (int axis = 0; axis < t.rank; ++axis) {
    if (t.extents[axis] < 1 || t.extents[axis] > int64_t{1} << 32) return false;
    if (t.box[axis] < 1 || t.box[axis] > 256) return false;
    if (axis > 0 &&
        (t.strides[axis] <= 0 || t.strides[axis] % 16 != 0 || t.strides[axis] >= int64_t{1} << 40))
      return false;
  }
  const uint32_t line = static_cast<uint32_t>(t.box[0]) * 2;
  return line % 16 == 0 && (t.swizzle == Swizzle::none || line == swizzle_width(t.swizzle));
}

inline bool is_encodable(const WalkedImages& t) {
  const auto is_corner = [](int64_t c) { return c >= -128 && c <= 127; };
  return t.base != nullptr && reinterpret_cast<uintptr_t>(t.base) % 16 == 0 && t.n > 0 &&
         t.n <= int64_t{1} << 32 && t.channels > 0 && t.channels % 8 == 0 && t.stride >= 1 &&
         t.stride <= 8 && t.width > 0 && t.height > 0 && t.columns > 0 && t.rows > 0 &&
         is_corner(t.first_x) && is_corner(t.first_y) && is_corner(t.right()) &&
         is_corner(t.bottom()) && t.box_pixels >= 1 && t.box_pixels <= 256 &&
         t.swizzle != Swizzle::none &&
         t.box_channels * 2 == static_cast<int>(swizzle_width(t.swizzle)) &&
         int64_t{t.height} * t.width * t.channels * 2 < int64_t{1} << 40;
}

}  // namespace moat::kernels
