#include "engine/ops/square_attack.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "kernels/update/square_l2.h"
#include "kernels/update/square_linf.h"

namespace moat::engine {

namespace {

// What both norms ask of their operands.
void require_query(const char* op, const Tensor& best, const Tensor& rows, const Tensor& ids,
                   int64_t side) {
  require(best.defined() && best.rank() == 4 && best.dtype() == Dtype::f32, [&] {
    return text(op, ": best must be float32 [images, height, width, channels], got ",
                described(best));
  });
  require(rows.defined() && rows.rank() == 1, [&] { return text(op, ": rows must be int32 [n]"); });
  require_operand(op, "rows", rows, rows.shape(), Dtype::i32);
  require_operand(op, "ids", ids, rows.shape(), Dtype::i32);
  require(side >= 0 && side <= best.dim(1) && side <= best.dim(2), [&] {
    return text(op, ": the square must fit into images of ", best.dim(1), "x", best.dim(2),
                " pixels, got a side of ", side);
  });
}

Tensor candidates(const Tensor& best, const Tensor& rows) {
  return Tensor::empty({rows.dim(0), best.dim(1), best.dim(2), best.dim(3)}, Dtype::f32,
                       best.device());
}

kernels::SquareKey square_key(const RandomKey& key) {
  return {key.seed, key.iteration, static_cast<uint32_t>(key.purpose), key.stream};
}

}  // namespace

Tensor square_linf(const Tensor& best_any, const Tensor& low_any, const Tensor& high_any,
                   const Tensor& rows_any, const Tensor& ids_any, int side, const RandomKey& key) {
  require_query("square_linf", best_any, rows_any, ids_any, side);
  require_operand("square_linf", "low", low_any, best_any.shape(), Dtype::f32);
  require_operand("square_linf", "high", high_any, best_any.shape(), Dtype::f32);
  const Tensor best = best_any.contiguous(), low = low_any.contiguous(),
               high = high_any.contiguous(), rows = rows_any.contiguous(),
               ids = ids_any.contiguous(), y = candidates(best, rows);
  dispatch(common_device({best, low, high, rows, ids}), [&](auto on) {
    return kernels::square_linf(on, {.best = best.data_as<float>(),
                                     .low = low.data_as<float>(),
                                     .high = high.data_as<float>(),
                                     .rows = rows.data_as<int32_t>(),
                                     .ids = ids.data_as<int32_t>(),
                                     .y = y.data_as<float>(),
                                     .n = to_int(rows.dim(0)),
                                     .images = to_int(best.dim(0)),
                                     .height = to_int(best.dim(1)),
                                     .width = to_int(best.dim(2)),
                                     .channels = to_int(best.dim(3)),
                                     .side = side,
                                     .key = square_key(key)});
  });
  return y;
}

Tensor square_l2(const Tensor& best_any, const Tensor& center_any, const Tensor& bump_any,
                 const Tensor& rows_any, const Tensor& ids_any, double eps, const RandomKey& key) {
  const int64_t side = bump_any.defined() && bump_any.rank() == 2 ? bump_any.dim(0) : 0;
  require_query("square_l2", best_any, rows_any, ids_any, side);
  require_operand("square_l2", "center", center_any, best_any.shape(), Dtype::f32);
  require_operand("square_l2", "bump", bump_any, {side, side}, Dtype::f32);
  require(std::isfinite(eps) && eps >= 0,
          [&] { return text("square_l2: eps must be finite and not negative, got ", eps); });
  const Tensor best = best_any.contiguous(), center = center_any.contiguous(),
               bump = bump_any.contiguous(), rows = rows_any.contiguous(),
               ids = ids_any.contiguous(), y = candidates(best, rows);
  dispatch(common_device({best, center, bump, rows, ids}), [&](auto on) {
    return kernels::square_l2(on, {.best = best.data_as<float>(),
                                   .center = center.data_as<float>(),
                                   .bump = bump.data_as<float>(),
                                   .rows = rows.data_as<int32_t>(),
                                   .ids = ids.data_as<int32_t>(),
                                   .y = y.data_as<float>(),
                                   .n = to_int(rows.dim(0)),
                                   .images = to_int(best.dim(0)),
                                   .height = to_int(best.dim(1)),
                                   .width = to_int(best.dim(2)),
                                   .channels = to_int(best.dim(3)),
                                   .side = to_int(side),
                                   .eps = eps,
                                   .key = square_key(key)});
  });
  return y;
}

}  // namespace moat::engine
