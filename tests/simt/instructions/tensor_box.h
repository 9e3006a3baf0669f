#pragma once

// What the interpreter keeps in a TensorMap, and which byte of a box lies where: plain functions.

#include <cstdint>
#include <cstring>

#include "kernels/cuda/tensor_map.h"

namespace simt {

struct TensorBox {
  static constexpr uint64_t kMark = 0x7442'6f78'2d6d'6170;  // tells a map from other bytes
  uint64_t mark = kMark;
  char* base = nullptr;
  int64_t extents[3] = {}, strides[3] = {};
  int box[3] = {}, rank = 2, element_bytes = 2;
  moat::kernels::Swizzle swizzle = moat::kernels::Swizzle::none;

  bool is_valid() const { return mark == kMark; }
  uint32_t bytes() const { return static_cast<uint32_t>(box[0] * box[1] * box[2] * element_bytes); }
};
static_assert(sizeof(TensorBox) <= sizeof(moat::kernels::TensorMap));

inline TensorBox box_of(const moat::kernels::TensorMap& map) {
  TensorBox box;
  std::memcpy(static_cast<void*>(&box), &map, sizeof box);
  return box;
}

// Calls visit(shared address, bytes, global address or nullptr outside the tensor) for every piece
// of the box at `at` whose first byte lies at `shared`: pieces are elements' worth, in the order of
// the unswizzled box.
template <class Visit>
void for_each_element(const TensorBox& b, const int (&at)[3], uint32_t shared, Visit visit) {
  uint32_t offset = 0;
  for (int z = 0; z < b.box[2]; ++z)
    for (int y = 0; y < b.box[1]; ++y)
      for (int x = 0; x < b.box[0]; ++x, offset += static_cast<uint32_t>(b.element_bytes)) {
        const int64_t place[3] = {int64_t{at[0]} + x, int64_t{at[1]} + y, int64_t{at[2]} + z};
        bool inside = true;
        int64_t bytes = place[0] * b.element_bytes;
        for (int axis = 0; axis < b.rank; ++axis) {
          inside = inside && place[axis] >= 0 && place[axis] < b.extents[axis];
          if (axis > 0) bytes += place[axis] * b.strides[axis];
        }
        visit(moat::kernels::swizzled(shared + offset, b.swizzle), b.element_bytes,
              inside ? b.base + bytes : nullptr);
      }
}

}  // namespace simt
