#include "kernels/cuda/tensor_map.h"

#include <functional>

#include "tests/cuda/device_memory.h"

namespace moat::tests {

using namespace kernels;

namespace {

// [11, 72] of bf16, boxes of 8 lines of 128 bytes.
TiledTensor tensor(const void* base) {
  return {.base = base,
          .extents = {72, 11},
          .strides = {2, 160},
          .box = {64, 8},
          .swizzle = Swizzle::b128};
}

}  // namespace

TEST_CASE("cuda: tensor maps are made of what TMA can move", "[cuda][tensor_map]") {
  const DeviceArray<Bf16> data(80 * 11);
  TensorMap map;
  REQUIRE(make_tensor_map(&map, tensor(data.data())) == Status::ok);

  const std::pair<const char*, std::function<void(TiledTensor&)>> faults[] = {
      {"rank 1", [](TiledTensor& t) { t.rank = 1; }},
      {"rank 5", [](TiledTensor& t) { t.rank = 5; }},
      {"a stride of 0 along the fourth axis", [](TiledTensor& t) { t.rank = 4; }},
      {"no columns", [](TiledTensor& t) { t.extents[0] = 0; }},
      {"too many rows", [](TiledTensor& t) { t.extents[1] = (int64_t{1} << 32) + 1; }},
      {"a stride of 168", [](TiledTensor& t) { t.strides[1] = 168; }},
      {"a stride of 0", [](TiledTensor& t) { t.strides[1] = 0; }},
      {"a stride of 2^40", [](TiledTensor& t) { t.strides[1] = int64_t{1} << 40; }},
      {"257 lines in a box", [](TiledTensor& t) { t.box[1] = 257; }},
      {"an empty box", [](TiledTensor& t) { t.box[1] = 0; }},
      {"lines of 24 bytes", [](TiledTensor& t) { t.box[0] = 12, t.swizzle = Swizzle::none; }},
      {"lines of 64 bytes, swizzled by 128", [](TiledTensor& t) { t.box[0] = 32; }},
      {"a base off 16 bytes",
       [](TiledTensor& t) { t.base = static_cast<const char*>(t.base) + 8; }},
  };
  for (const auto& [name, plant] : faults) {
    TiledTensor t = tensor(data.data());
    plant(t);
    INFO(name);
    REQUIRE(make_tensor_map(&map, t) == Status::bad_args);
  }
}

TEST_CASE("cuda: tensor maps are made of images that TMA can walk over", "[cuda][tensor_map]") {
  const DeviceArray<Bf16> data(3 * 5 * 7 * 64);
  const WalkedImages images{.base = data.data(),
                            .n = 3,
                            .height = 5,
                            .width = 7,
                            .channels = 64,
                            .first_x = -1,
                            .first_y = -2,
                            .columns = 4,
                            .rows = 4,
                            .stride = 2};
  TensorMap map;
  REQUIRE(make_tensor_map(&map, images) == Status::ok);
  const std::pair<const char*, std::function<void(WalkedImages&)>> faults[] = {
      {"no images", [](WalkedImages& t) { t.n = 0; }},
      {"no columns", [](WalkedImages& t) { t.columns = 0; }},
      {"12 channels", [](WalkedImages& t) { t.channels = 12; }},
      {"a stride of 9", [](WalkedImages& t) { t.stride = 9; }},
      {"a stride of 0", [](WalkedImages& t) { t.stride = 0; }},
      {"from 129 left of the image", [](WalkedImages& t) { t.first_x = -129; }},
      {"to 128 right of the image", [](WalkedImages& t) { t.columns = 69; }},
      {"to 128 below the image", [](WalkedImages& t) { t.rows = 69; }},
      {"257 pixels", [](WalkedImages& t) { t.box_pixels = 257; }},
      {"32 channels, swizzled by 128", [](WalkedImages& t) { t.box_channels = 32; }},
      {"a base off 16 bytes",
       [](WalkedImages& t) { t.base = static_cast<const char*>(t.base) + 8; }},
  };
  for (const auto& [name, plant] : faults) {
    WalkedImages t = images;
    plant(t);
    INFO(name);
    REQUIRE(make_tensor_map(&map, t) == Status::bad_args);
  }
}

}  // namespace moat::tests
