#include "engine/ops/operand.h"

namespace moat::engine {

std::string described(const Tensor& t) {
  return t.defined() ? text(name_of(t.dtype()), " ", t.shape().str()) : "nothing";
}

void require_operand(const char* op, const char* what, const Tensor& t, const Shape& shape,
                     Dtype dtype) {
  require(t.defined() && t.shape() == shape && t.dtype() == dtype, [&] {
    return text(op, ": ", what, " must be ", name_of(dtype), " ", shape.str(), ", got ",
                described(t));
  });
}

}  // namespace moat::engine
