#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Calls f.operator()<T>() with the C++ type of any dtype, integers too.
template <class F>
Status with_any(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::i32:
      return f.template operator()<int32_t>();
    case Dtype::i64:
      return f.template operator()<int64_t>();
    case Dtype::u8:
      return f.template operator()<uint8_t>();
    default:
      return with_float(dtype, f);
  }
}

}  // namespace moat::kernels
