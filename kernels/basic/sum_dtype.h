#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Whether sums of terms in `from` may be written in `to`: the same format or, of bfloat16, float32.
constexpr bool is_sum_dtype(Dtype from, Dtype to) {
  return to == from || (from == Dtype::bf16 && to == Dtype::f32);
}

}  // namespace moat::kernels
