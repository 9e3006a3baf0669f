#pragma once

#include "engine/ops/operand.h"
#include "engine/tensor.h"

namespace moat::engine {

// What an optimizer's step is given; `op` ("sgd_step") begins the error.

inline void require_weights(const char* op, const Tensor& weights) {
  require(weights.defined() && weights.is_contiguous() &&
              (weights.dtype() == Dtype::f32 || weights.dtype() == Dtype::f64),
          [&] { return text(op, ": weights must be contiguous float32 or float64"); });
}

inline void require_buffer(const char* op, const char* what, const Tensor& t,
                           const Tensor& weights) {
  require(t.defined() && t.shape() == weights.shape() && t.dtype() == weights.dtype() &&
              t.is_contiguous(),
          [&] {
            return text(op, ": ", what, " must be contiguous ", name_of(weights.dtype()), " ",
                        weights.shape().str(), " like the weights, got ", described(t));
          });
}

inline void require_scalars(const char* op, const Tensor& failures, const Tensor& lr_factor) {
  require(!failures.defined() || (failures.shape() == Shape{1} && failures.dtype() == Dtype::i64),
          [&] { return text(op, ": failures must be int64 [1]"); });
  require(
      !lr_factor.defined() || (lr_factor.shape() == Shape{1} && lr_factor.dtype() == Dtype::f64),
      [&] { return text(op, ": lr_factor must be float64 [1]"); });
}

inline void require_mask(const char* op, const Tensor& decayed, const Tensor& weights) {
  require(!decayed.defined() || (decayed.shape() == weights.shape() &&
                                 decayed.dtype() == Dtype::u8 && decayed.is_contiguous()),
          [&] {
            return text(op, ": decayed must be contiguous uint8 ", weights.shape().str(),
                        " like the weights, got ", described(decayed));
          });
}

// The pointer that a kernel takes for a tensor that may be undefined.
template <class T>
const T* pointer_or_null(const Tensor& t) {
  return t.defined() ? t.data_as<T>() : nullptr;
}

}  // namespace moat::engine
