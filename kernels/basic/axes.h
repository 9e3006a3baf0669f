#pragma once

// An iteration space of up to six axes over two arrays. Axes are merged where both arrays allow it,
// so that dense arrays are one axis.

#include <array>
#include <cstddef>
#include <cstdint>

namespace moat::kernels {

// Innermost axis first; strides in elements.
struct Axes {
  int rank = 0;
  int64_t count = 1;
  std::array<int64_t, 6> extents{}, a_strides{}, b_strides{};
};

// The axes of six row-major extents; none of extent 1, and neighbours that are one run in both
// arrays merged. At least one axis is left.
inline Axes merged_axes(const std::array<int64_t, 6>& extents,
                        const std::array<int64_t, 6>& a_strides,
                        const std::array<int64_t, 6>& b_strides) {
  Axes axes;
  for (size_t i = 6; i-- > 0;) {
    axes.count *= extents[i];
    if (extents[i] == 1) continue;
    const auto last = static_cast<size_t>(axes.rank) - 1;
    if (axes.rank > 0 && a_strides[i] == axes.extents[last] * axes.a_strides[last] &&
        b_strides[i] == axes.extents[last] * axes.b_strides[last]) {
      axes.extents[last] *= extents[i];
      continue;
    }
    const auto at = static_cast<size_t>(axes.rank++);
    axes.extents[at] = extents[i];
    axes.a_strides[at] = a_strides[i];
    axes.b_strides[at] = b_strides[i];
  }
  if (axes.rank == 0) axes.extents[static_cast<size_t>(axes.rank++)] = 1;
  return axes;
}

}  // namespace moat::kernels
