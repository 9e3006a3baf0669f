#include "engine/ops/operand.h"

namespace moat::engine {

std::string described(const Tensor& t) {
  return t.defined() ? text(name_of(t.dtype()), " ", t.shape().str()) : "nothing";
}

int64_t pixels_of(const Tensor& images) {
  int64_t pixels = 1;
  for (int axis = 1; axis < images.rank(); ++axis) pixels *= images.dim(axis);
  return pixels;
}

void require_operand(const char* op, const char* what, const Tensor& t, const Shape& shape,
                     Dtype dtype) {
  require(t.defined() && t.shape() == shape && t.dtype() == dtype, [&] {
    return text(op, ": ", what, " must be ", name_of(dtype), " ", shape.str(), ", got ",
                described(t));
  });
}

}  // namespace moat::engine
