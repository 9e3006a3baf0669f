// What the device says of itself, and the names of errors.

#include <cstdio>

#include "tests/simt/core.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/streams.h"

namespace {

constexpr int kVersion = 13000;  // of CUDA
constexpr int kL2Bytes = 50 << 20;
constexpr int kMajor = 9, kMinor = 0;

int as_int(size_t bytes) { return static_cast<int>(bytes); }

}  // namespace

using simt::remember;

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  return remember(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = kVersion, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = kVersion, cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!properties) return remember(cudaErrorInvalidValue);
  if (device != 0) return remember(cudaErrorInvalidDevice);
  *properties = {.totalGlobalMem = simt::device_memory().total,
                 .sharedMemPerBlock = simt::kSharedWithoutAsking,
                 .sharedMemPerBlockOptin = simt::kMostShared,
                 .sharedMemPerMultiprocessor = simt::kMostShared + 1024,
                 .maxThreadsPerBlock = 1024,
                 .maxThreadsPerMultiProcessor = 2048,
                 .major = kMajor,
                 .minor = kMinor,
                 .multiProcessorCount = simt::options().multiprocessors,
                 .l2CacheSize = kL2Bytes,
                 .memoryBusWidth = 5120,
                 .unifiedAddressing = 1};
  std::snprintf(properties->name, sizeof(properties->name), "SIMT interpreter");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return remember(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return *value = as_int(simt::kSharedWithoutAsking), cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      return *value = simt::options().multiprocessors, cudaSuccess;
    case cudaDevAttrL2CacheSize:
      return *value = kL2Bytes, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      return *value = kMajor, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      return *value = kMinor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return *value = as_int(simt::kMostShared), cudaSuccess;
  }
  return remember(cudaErrorInvalidValue);
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureMerge:
      return "cudaErrorStreamCaptureMerge";
    case cudaErrorStreamCaptureUnmatched:
      return "cudaErrorStreamCaptureUnmatched";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorStreamCaptureImplicit:
      return "cudaErrorStreamCaptureImplicit";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread:
      return "cudaErrorStreamCaptureWrongThread";
  }
  return "unknown";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return cudaGetErrorName(error);
  }
}
