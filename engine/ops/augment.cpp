#include "engine/ops/augment.h"

#include "engine/dispatch.h"

namespace moat::engine {

Tensor crop_flip(const Tensor& images, const Tensor& ids, int max_value, int padding, Flip flip,
                 const RandomKey& key) {
  require(images.defined() && images.rank() == 4 && images.dtype() == Dtype::u8, [&] {
    return text(
        "crop_flip: images must be uint8 [n, height, width, channels], got ",
        images.defined() ? text(name_of(images.dtype()), " ", images.shape().str()) : "nothing");
  });
  require(ids.defined() && ids.dtype() == Dtype::i32 && ids.shape() == Shape{images.dim(0)}, [&] {
    return text("crop_flip: ids must be int32 [", images.dim(0), "], got ",
                ids.defined() ? text(name_of(ids.dtype()), " ", ids.shape().str()) : "nothing");
  });
  require(max_value >= 1,
          [&] { return text("crop_flip: max_value must be positive, got ", max_value); });
  require(padding >= 0,
          [&] { return text("crop_flip: padding must not be negative, got ", padding); });
  const Tensor bytes = images.contiguous(), samples = ids.contiguous(),
               y = Tensor::empty(images.shape(), Dtype::f32, images.device());
  dispatch(common_device({images, ids}), [&](auto on) {
    return kernels::crop_flip(on, {.images = bytes.data_as<uint8_t>(),
                                   .ids = samples.data_as<int32_t>(),
                                   .y = y.data_as<float>(),
                                   .n = to_int(images.dim(0)),
                                   .height = to_int(images.dim(1)),
                                   .width = to_int(images.dim(2)),
                                   .channels = to_int(images.dim(3)),
                                   .max_value = max_value,
                                   .padding = padding,
                                   .flip = flip,
                                   .seed = key.seed,
                                   .iteration = key.iteration,
                                   .purpose = static_cast<uint32_t>(key.purpose),
                                   .stream = key.stream});
  });
  return y;
}

}  // namespace moat::engine
