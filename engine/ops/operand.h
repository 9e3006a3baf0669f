#pragma once

#include <string>

#include "engine/tensor.h"

namespace moat::engine {

// "float32 [2, 3]", or "nothing" for an undefined tensor.
std::string described(const Tensor& t);

// The values of one image of a batch: the product of all axes but the first.
int64_t pixels_of(const Tensor& images);

// Throws one line that names the op and the operand: what it must be, and what was given.
void require_operand(const char* op, const char* what, const Tensor& t, const Shape& shape,
                     Dtype dtype);

}  // namespace moat::engine
