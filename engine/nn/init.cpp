#include "engine/nn/init.h"

namespace moat::engine {

namespace {
Tensor row_numbers(int64_t rows) {
  Tensor t = Tensor::empty({rows}, Dtype::i32);
  for (int64_t i = 0; i < rows; ++i) t.data_as<int32_t>()[i] = to_int(i);
  return t;
}
// Rows are drawn flat, in memory order, whatever the rank.
Shape flat_rows(const Shape& shape) { return {shape[0], shape[0] ? shape.count() / shape[0] : 0}; }
// Takes them out of the budget.
void spend(const Shape& shape, InitStream& init) {
  const int64_t elements = shape.count();
  require(elements <= init.budget, [&] {
    return text("the model needs more parameters than its file holds, ", elements - init.budget,
                " too many at a tensor of shape ", shape.str());
  });
  init.budget -= elements;
}
}  // namespace

Tensor init_normal(const Shape& shape, double deviation, InitStream& init) {
  spend(shape, init);
  if (init.fill == InitStream::Fill::none) return Tensor::empty(shape);
  return random_normal(flat_rows(shape), row_numbers(shape[0]), init.take(), 0, deviation)
      .reshaped(shape);
}

Tensor init_uniform(const Shape& shape, double bound, InitStream& init) {
  spend(shape, init);
  if (init.fill == InitStream::Fill::none) return Tensor::empty(shape);
  return random_uniform(flat_rows(shape), row_numbers(shape[0]), init.take(), -bound, bound)
      .reshaped(shape);
}

}  // namespace moat::engine
