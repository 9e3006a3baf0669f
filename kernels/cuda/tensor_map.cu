#include "kernels/cuda/tensor_map.h"

#include "kernels/cuda.cuh"

#ifdef __CUDACC__
#include <cudaTypedefs.h>
#else
#include "kernels/ptx.cuh"
#endif

namespace moat::kernels {

#ifdef __CUDACC__

namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) &&
              alignof(TensorMap) == alignof(CUtensorMap));

// The driver's functions are asked for at run time: programs must start where no driver is.
template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found) !=
          cudaSuccess ||
      found != cudaDriverEntryPointSuccess)
    return nullptr;
  return reinterpret_cast<Function>(function);
}

constexpr CUtensorMapL2promotion kPromotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;

CUtensorMapSwizzle drivers(Swizzle swizzle) { return static_cast<CUtensorMapSwizzle>(swizzle); }
static_assert(static_cast<int>(Swizzle::none) == CU_TENSOR_MAP_SWIZZLE_NONE &&
              static_cast<int>(Swizzle::b128) == CU_TENSOR_MAP_SWIZZLE_128B);

}  // namespace

Status make_tensor_map(TensorMap* map, const TiledTensor& t) {
  if (!is_encodable(t)) return Status::bad_args;
  static const auto encode =
      driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  if (encode == nullptr) return Status::unsupported;
  constexpr int kRank = TiledTensor::kMostRank;
  cuuint64_t extents[kRank], strides[kRank - 1];
  cuuint32_t box[kRank], every[kRank] = {1, 1, 1, 1};
  for (int axis = 0; axis < t.rank; ++axis) {
    extents[axis] = static_cast<cuuint64_t>(t.extents[axis]);
    box[axis] = static_cast<cuuint32_t>(t.box[axis]);
    if (axis > 0) strides[axis - 1] = static_cast<cuuint64_t>(t.strides[axis]);
  }
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             static_cast<cuuint32_t>(t.rank), const_cast<void*>(t.base), extents, strides, box,
             every, CU_TENSOR_MAP_INTERLEAVE_NONE, drivers(t.swizzle), kPromotion,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? Status::ok : Status::bad_args;
}

Status make_tensor_map(TensorMap* map, const WalkedImages& t) {
  if (!is_encodable(t)) return Status::bad_args;
  static const auto encode =
      driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
  if (encode == nullptr) return Status::unsupported;
  const auto width = static_cast<cuuint64_t>(t.width), height = static_cast<cuuint64_t>(t.height),
             channels = static_cast<cuuint64_t>(t.channels);
  const auto stride = static_cast<cuuint32_t>(t.stride);
  const cuuint64_t extents[] = {channels, width, height, static_cast<cuuint64_t>(t.n)},
                   strides[] = {channels * 2, channels * 2 * width, channels * 2 * width * height};
  const int lower[] = {t.first_x, t.first_y},
            upper[] = {static_cast<int>(t.right()), static_cast<int>(t.bottom())};
  const cuuint32_t every[] = {1, stride, stride, 1};
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
             const_cast<void*>(t.base), extents, strides, lower, upper,
             static_cast<cuuint32_t>(t.box_channels), static_cast<cuuint32_t>(t.box_pixels), every,
             CU_TENSOR_MAP_INTERLEAVE_NONE, drivers(t.swizzle), kPromotion,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? Status::ok : Status::bad_args;
}

#else

Status make_tensor_map(TensorMap* map, const TiledTensor& t) {
  if (!is_encodable(t)) return Status::bad_args;
  simt::encode_tensor_map(map, t);
  return Status::ok;
}
Status make_tensor_map(TensorMap* map, const WalkedImages& t) {
  if (!is_encodable(t)) return Status::bad_args;
  simt::encode_tensor_map(map, t);
  return Status::ok;
}

#endif

}  // namespace moat::kernels
