#pragma once

// Finding elements by merged axes (kernels/basic/axes.h): in dense arrays it costs no division.

#include "kernels/basic/axes.h"
#include "kernels/cuda.cuh"

namespace moat::kernels {

// True where the elements in the order of the axes are one run of memory.
inline bool is_dense(const Axes& axes, const std::array<int64_t, 6>& strides) {
  int64_t run = 1;
  for (size_t i = 0; i < static_cast<size_t>(axes.rank); ++i) {
    if (axes.extents[i] != 1 && strides[i] != run) return false;
    run *= axes.extents[i];
  }
  return true;
}

// True where runs of `size` elements along the first axis are vectors that start at multiples of
// their size, if the array does.
inline bool is_run_of_vectors(const Axes& axes, const std::array<int64_t, 6>& strides,
                              int64_t size) {
  bool fits = strides[0] == 1;
  for (size_t i = 1; i < static_cast<size_t>(axes.rank); ++i) fits &= strides[i] % size == 0;
  return fits;
}

struct Offsets {
  int64_t a, b;
};

// Where element `index` lies in both arrays. Index: uint32_t where `count` fits, its division is
// several times cheaper.
template <class Index>
__device__ Offsets offsets_of(const Axes& axes, Index index) {
  Offsets at{0, 0};
#pragma unroll
  for (int i = 0; i < 6; ++i) {
    if (i >= axes.rank) break;
    Index along = index;
    if (i < axes.rank - 1) {
      const Index extent = static_cast<Index>(axes.extents[i]), rest = index / extent;
      along = index - rest * extent;
      index = rest;
    }
    at.a += static_cast<int64_t>(along) * axes.a_strides[i];
    at.b += static_cast<int64_t>(along) * axes.b_strides[i];
  }
  return at;
}
__device__ inline Offsets offsets_of(const Axes& axes, int64_t index) {
  return axes.count <= int64_t{0xffffffff}
             ? offsets_of<uint32_t>(axes, static_cast<uint32_t>(index))
             : offsets_of<uint64_t>(axes, static_cast<uint64_t>(index));
}

}  // namespace moat::kernels
