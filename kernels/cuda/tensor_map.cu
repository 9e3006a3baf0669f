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

// The driver's function is asked for at run time: programs must start where no driver is.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                       cudaEnableDefault, &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess)
    return nullptr;
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

CUtensorMapDataType element_type(Dtype dtype) {
  if (dtype == Dtype::bf16) return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return dtype == Dtype::f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_INT32;
}

}  // namespace

Status make_tensor_map(TensorMap* map, const TiledTensor& t) {
  if (!is_encodable(t)) return Status::bad_args;
  const auto encode = encoder();
  if (encode == nullptr) return Status::unsupported;
  cuuint64_t extents[3], strides[2];
  cuuint32_t box[3], every[3] = {1, 1, 1};
  for (int axis = 0; axis < t.rank; ++axis) {
    extents[axis] = static_cast<cuuint64_t>(t.extents[axis]);
    box[axis] = static_cast<cuuint32_t>(t.box[axis]);
    if (axis > 0) strides[axis - 1] = static_cast<cuuint64_t>(t.strides[axis]);
  }
  // The enumerators of both kinds count as the driver's do: none, 32, 64, 128 bytes and none, 64,
  // 128, 256 bytes.
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(map), element_type(t.dtype),
             static_cast<cuuint32_t>(t.rank), const_cast<void*>(t.base), extents, strides, box,
             every, CU_TENSOR_MAP_INTERLEAVE_NONE, static_cast<CUtensorMapSwizzle>(t.swizzle),
             static_cast<CUtensorMapL2promotion>(t.promotion), CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? Status::ok : Status::bad_args;
}

#else

Status make_tensor_map(TensorMap* map, const TiledTensor& t) {
  if (!is_encodable(t)) return Status::bad_args;
  simt::encode_tensor_map(map, t);
  return Status::ok;
}

#endif

}  // namespace moat::kernels
