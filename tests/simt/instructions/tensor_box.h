#pragma once

// What the interpreter keeps in a TensorMap, and which byte of a box lies where: plain functions.

#include <cstdint>
#include <cstring>

#include "kernels/cuda/tensor_map.h"

namespace simt {

struct TensorBox {
  static constexpr uint64_t kMark = 0x7442'6f78'2d6d'6170;  // tells a map from other bytes
  static constexpr int kMostRank = moat::kernels::TiledTensor::kMostRank;
  static constexpr int kElement = 2;  // bytes
  uint64_t mark = kMark;
  char* base = nullptr;
  int64_t extents[kMostRank] = {}, strides[kMostRank] = {};
  int16_t box[kMostRank] = {1, 1, 1, 1};  // of walked images: channels, pixels
  // The walk of WalkedImages; a stride of 0: a box of a tiled tensor.
  int columns = 0, rows = 0;
  int16_t first_x = 0, first_y = 0;
  int8_t stride = 0;
  int8_t rank = 2;
  moat::kernels::Swizzle swizzle = moat::kernels::Swizzle::none;

  bool is_valid() const { return mark == kMark; }
  bool is_walked() const { return stride > 0; }
  int lines() const { return box[1] * box[2] * box[3]; }
  uint32_t bytes() const { return static_cast<uint32_t>(box[0] * lines() * kElement); }
};
static_assert(sizeof(TensorBox) <= sizeof(moat::kernels::TensorMap));

inline TensorBox box_of(const moat::kernels::TensorMap& map) {
  TensorBox box;
  std::memcpy(static_cast<void*>(&box), &map, sizeof box);
  return box;
}

// Where a copy begins: coordinates, innermost first; of walked images also how far pixels are
// moved.
struct BoxPlace {
  int at[TensorBox::kMostRank] = {};
  int right = 0, down = 0;
};

// The walk's pixel that a coordinate of x or y stands for, or -1.
inline int walked(int at, int first, int count, int stride) {
  const int i = (at - first) / stride;
  return at >= first && i < count && first + i * stride == at ? i : -1;
}

// Coordinates 1 and up of line `line` of the box.
inline void line_place(const TensorBox& b, const BoxPlace& p, int line, int64_t (&place)[4]) {
  if (!b.is_walked()) {
    place[1] = int64_t{p.at[1]} + line % b.box[1];
    place[2] = int64_t{p.at[2]} + line / b.box[1] % b.box[2];
    place[3] = int64_t{p.at[3]} + line / b.box[1] / b.box[2];
    return;
  }
  const int64_t number =
      (int64_t{p.at[3]} * b.rows + walked(p.at[2], b.first_y, b.rows, b.stride)) * b.columns +
      walked(p.at[1], b.first_x, b.columns, b.stride) + line;
  place[1] = b.first_x + number % b.columns * b.stride + p.right;
  place[2] = b.first_y + number / b.columns % b.rows * b.stride + p.down;
  place[3] = number / b.columns / b.rows;
}

// Calls visit(shared address, global address or nullptr outside the tensor) for every element of
// the box at `p` whose first byte lies at `shared`, in the order of the unswizzled box.
template <class Visit>
void for_each_element(const TensorBox& b, const BoxPlace& p, uint32_t shared, Visit visit) {
  uint32_t offset = 0;
  for (int line = 0; line < b.lines(); ++line) {
    int64_t place[TensorBox::kMostRank];
    line_place(b, p, line, place);
    bool inside = true;
    int64_t start = 0;
    for (int axis = 1; axis < b.rank; ++axis) {
      inside = inside && place[axis] >= 0 && place[axis] < b.extents[axis];
      start += place[axis] * b.strides[axis];
    }
    for (int x = 0; x < b.box[0]; ++x, offset += uint32_t{TensorBox::kElement}) {
      const int64_t column = int64_t{p.at[0]} + x;
      visit(moat::kernels::swizzled(shared + offset, b.swizzle),
            inside && column >= 0 && column < b.extents[0]
                ? b.base + start + column * TensorBox::kElement
                : nullptr);
    }
  }
}

}  // namespace simt
