#pragma once

// What grouped kernels share: experts as segments of a sorted batch, run one after another, each on
// all threads, in the same workspace.

#include <algorithm>
#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

inline bool are_segments(const int* offsets, int experts) {
  return experts >= 0 && offsets && offsets[0] == 0 &&
         std::is_sorted(offsets, offsets + experts + 1);
}

// The address of an element.
inline const char* at(const void* base, int64_t element, Dtype dtype) {
  return static_cast<const char*>(base) + element * static_cast<int64_t>(size_of(dtype));
}
inline char* at(void* base, int64_t element, Dtype dtype) {
  return static_cast<char*>(base) + element * static_cast<int64_t>(size_of(dtype));
}

// The most that size(e) is for any expert.
template <class Size>
size_t largest_of_experts(int experts, Size&& size) {
  size_t most = 0;
  for (int e = 0; e < experts; ++e) most = std::max(most, size(e));
  return most;
}

// run(e) for every expert until one fails.
template <class Run>
Status for_each_expert(int experts, Run&& run) {
  for (int e = 0; e < experts; ++e)
    if (const Status status = run(e); status != Status::ok) return status;
  return Status::ok;
}

}  // namespace moat::kernels
