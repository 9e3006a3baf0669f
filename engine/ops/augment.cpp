#include "engine/ops/augment.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "kernels/vision/mix_images.h"

namespace moat::engine {

namespace {

void require_images(const char* op, const Tensor& images, Dtype dtype) {
  require(images.defined() && images.rank() == 4 && images.dtype() == dtype, [&] {
    return text(op, ": images must be ", name_of(dtype), " [n, height, width, channels], got ",
                described(images));
  });
}

void require_crop(const Tensor& images, const Augmentation& how) {
  require(how.crop_padding >= 0 && (how.crop_padding == 0 || how.crop == Crop::window), [&] {
    return text("augment: crop_padding must not be negative, and 0 but for Crop::window, got ",
                how.crop_padding);
  });
  require(how.height >= 0 && how.width >= 0 && how.height <= images.dim(1) &&
              how.width <= images.dim(2),
          [&] {
            return text("augment: a crop must lie in images of ", images.dim(1), "x", images.dim(2),
                        ", got ", how.height, "x", how.width);
          });
  if (how.crop != Crop::area) return;
  require(how.least_area > 0 && how.least_area <= 1, [&] {
    return text("augment: least_area must be above 0 and at most 1, got ", how.least_area);
  });
  require(
      images.dim(1) <= kernels::kLongestResampled && images.dim(2) <= kernels::kLongestResampled,
      [&] {
        return text("augment: Crop::area takes images of sides up to ", kernels::kLongestResampled,
                    ", got ", described(images));
      });
}

}  // namespace

Tensor augment(const Tensor& images, const Tensor& ids, int max_value, const Augmentation& how,
               const RandomKey& key) {
  require_images("augment", images, Dtype::u8);
  require_operand("augment", "ids", ids, {images.dim(0)}, Dtype::i32);
  require(max_value >= 1 && max_value <= 255,
          [&] { return text("augment: max_value must be 1 to 255, got ", max_value); });
  require_crop(images, how);
  require(how.cutout >= 0,
          [&] { return text("augment: cutout must not be negative, got ", how.cutout); });
  if (how.cutout_fill.defined())
    require_operand("augment", "cutout_fill", how.cutout_fill, {images.dim(3)}, Dtype::f32);
  const Tensor bytes = images.contiguous(), samples = ids.contiguous(),
               fill = how.cutout_fill.contiguous(),
               y = Tensor::empty({images.dim(0), how.height > 0 ? how.height : images.dim(1),
                                  how.width > 0 ? how.width : images.dim(2), images.dim(3)},
                                 Dtype::f32, images.device());
  dispatch(common_device({images, ids, fill}), [&](auto on) {
    return kernels::augment(on, {.images = bytes.data_as<uint8_t>(),
                                 .ids = samples.data_as<int32_t>(),
                                 .fill = fill.defined() ? fill.data_as<float>() : nullptr,
                                 .y = y.data_as<float>(),
                                 .n = to_int(images.dim(0)),
                                 .height = to_int(images.dim(1)),
                                 .width = to_int(images.dim(2)),
                                 .channels = to_int(images.dim(3)),
                                 .y_height = to_int(y.dim(1)),
                                 .y_width = to_int(y.dim(2)),
                                 .max_value = max_value,
                                 .crop = how.crop,
                                 .padding = how.crop_padding,
                                 .least_area = how.least_area,
                                 .flip = how.flip,
                                 .cutout = how.cutout,
                                 .seed = key.seed,
                                 .iteration = key.iteration,
                                 .purpose = static_cast<uint32_t>(key.purpose),
                                 .stream = key.stream});
  });
  return y;
}

MixedImages mix_images(const Tensor& images, const Tensor& labels, const Tensor& ids,
                       const Mixing& how, const RandomKey& key) {
  require_images("mix_images", images, Dtype::f32);
  require_operand("mix_images", "labels", labels, {images.dim(0)}, Dtype::i32);
  require_operand("mix_images", "ids", ids, {images.dim(0)}, Dtype::i32);
  require(std::isfinite(how.mixup) && std::isfinite(how.cutmix) && how.mixup >= 0 &&
              how.cutmix >= 0 && how.is_on(),
          [&] {
            return text("mix_images: mixup and cutmix must be numbers of at least 0, one of them ",
                        "above, got ", how.mixup, " and ", how.cutmix);
          });
  const Tensor x = images.contiguous(), own_labels = labels.contiguous(),
               samples = ids.contiguous();
  const auto like_labels = [&](Dtype dtype) {
    return Tensor::empty(labels.shape(), dtype, images.device());
  };
  const MixedImages out{Tensor::empty(images.shape(), Dtype::f32, images.device()),
                        like_labels(Dtype::i32), like_labels(Dtype::i32), like_labels(Dtype::f32)};
  dispatch(common_device({images, labels, ids}), [&](auto on) {
    return kernels::mix_images(on, {.images = x.data_as<float>(),
                                    .labels = own_labels.data_as<int32_t>(),
                                    .ids = samples.data_as<int32_t>(),
                                    .y = out.images.data_as<float>(),
                                    .mixed_labels = out.labels.data_as<int32_t>(),
                                    .other_labels = out.other_labels.data_as<int32_t>(),
                                    .weights = out.weight.data_as<float>(),
                                    .n = to_int(images.dim(0)),
                                    .height = to_int(images.dim(1)),
                                    .width = to_int(images.dim(2)),
                                    .channels = to_int(images.dim(3)),
                                    .mixup = how.mixup,
                                    .cutmix = how.cutmix,
                                    .seed = key.seed,
                                    .iteration = key.iteration,
                                    .purpose = static_cast<uint32_t>(key.purpose),
                                    .stream = key.stream});
  });
  return out;
}

}  // namespace moat::engine
