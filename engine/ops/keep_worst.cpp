#include "engine/ops/keep_worst.h"

#include <limits>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "kernels/update/keep_worst.h"

namespace moat::engine {

WorstPoints worst_points(const Tensor& images) {
  const int64_t n = images.dim(0);
  const double none = -std::numeric_limits<double>::infinity();
  return {images.clone(), Tensor::full({n}, -1, Dtype::i32, images.device()),
          Tensor::full({n}, none, Dtype::f32, images.device())};
}

Tensor keep_worst(const WorstPoints& worst, const Tensor& points, const Tensor& rows,
                  const Tensor& predicted, const Tensor& labels, const Tensor& loss, int number) {
  const int64_t images = worst.points.dim(0), n = points.dim(0),
                pixels = images ? worst.points.size() / images : 0;
  require(points.dtype() == Dtype::f32 && points.size() == n * pixels, [&] {
    return text("keep_worst: points must be float32 like the images ", worst.points.shape().str(),
                ", got ", name_of(points.dtype()), " ", points.shape().str());
  });
  require_operand("keep_worst", "rows", rows, {n}, Dtype::i32);
  require_operand("keep_worst", "predicted", predicted, {n}, Dtype::i32);
  require_operand("keep_worst", "labels", labels, {images}, Dtype::i32);
  require_operand("keep_worst", "loss", loss, {n}, Dtype::f32);
  const Tensor x = points.contiguous(), at = rows.contiguous(), guess = predicted.contiguous(),
               right = labels.contiguous(), value = loss.contiguous();
  const Tensor resisting = Tensor::empty({1}, Dtype::i32, x.device());
  const Device device =
      common_device({x, at, guess, value, right, worst.fooled_at, worst.best_loss, worst.points});
  dispatch(device, [&](auto on) {
    return kernels::keep_worst(on, {.points = x.data_as<float>(),
                                    .rows = at.data_as<int32_t>(),
                                    .predicted = guess.data_as<int32_t>(),
                                    .loss = value.data_as<float>(),
                                    .labels = right.data_as<int32_t>(),
                                    .fooled_at = worst.fooled_at.data_as<int32_t>(),
                                    .best_loss = worst.best_loss.data_as<float>(),
                                    .worst = worst.points.data_as<float>(),
                                    .resisting = resisting.data_as<int32_t>(),
                                    .n = to_int(n),
                                    .images = to_int(images),
                                    .pixels = pixels,
                                    .number = number});
  });
  return resisting;
}

}  // namespace moat::engine
