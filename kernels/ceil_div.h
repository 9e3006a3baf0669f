#pragma once

#include <cstdint>

namespace moat::kernels {

// How many pieces of `size` hold `count` things.
constexpr int64_t ceil_div(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace moat::kernels
