// Number formats and approximations. The latter are exact here but for subnormal numbers: results
// differ from a GPU's within their stated error.

#include "tests/simt/instructions/numbers.h"

#include <cmath>
#include <limits>

#include "tests/simt/ptx.h"

namespace moat::kernels::ptx {

namespace {

float flushed(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}

}  // namespace

uint32_t pack_bf16(float low, float high) {
  return simt::to_bf16(low) | static_cast<uint32_t>(simt::to_bf16(high)) << 16;
}
uint32_t round_tf32(float x) { return simt::to_tf32(x); }
float approximate_exp2(float x) { return flushed(std::exp2(flushed(x))); }
float approximate_reciprocal(float x) { return flushed(1 / flushed(x)); }

}  // namespace moat::kernels::ptx
