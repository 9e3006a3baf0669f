#include "engine/cuda/runtime.h"

#ifdef MOAT_SIMT
#include <simt/cuda.h>  // the interpreter of tests/simt, as in kernels/cuda.cuh
#else
#include <cuda_runtime.h>
#endif

#include <array>
#include <cstdlib>
#include <mutex>

#include "engine/error.h"

namespace moat::engine::cuda {

namespace {

constexpr int kMostDevices = 64;

void check(cudaError_t error, const char* what, Where where = Where::here()) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // a reported error is not reported again
  throw Error(text("CUDA: ", what, " failed: ", cudaGetErrorString(error)), where);
}

void make_current(int index) {
  static thread_local int current = -1;
  if (current == index) return;
  check(cudaSetDevice(index), "choosing the GPU");
  current = index;
}

std::string version_text(int version) {  // 13000 -> "13.0"
  return text(version / 1000, ".", version % 1000 / 10);
}

// What there is, looked up once.
struct Devices {
  int count = 0;
  std::string why_none;

  Devices() {
    int found = 0;
    const cudaError_t error = cudaGetDeviceCount(&found);
    cudaGetLastError();
    if (error != cudaSuccess) {
      why_none = cudaGetErrorString(error);
      return;
    }
    for (int index = 0; index < found; ++index) {
      cudaDeviceProp p{};
      if (cudaGetDeviceProperties(&p, index) != cudaSuccess || p.major < 8) break;
      ++count;
    }
    if (count == 0)
      why_none = found == 0 ? "there is no NVIDIA GPU" : "the first GPU is older than sm_80";
  }
};

const Devices& devices() {
  static const Devices all;
  return all;
}

}  // namespace

int device_count() { return devices().count; }
std::string why_no_device() { return devices().why_none; }

Properties properties(int index) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "asking for the GPU's properties");
  return {.name = p.name,
          .memory_bytes = p.totalGlobalMem,
          .multiprocessors = p.multiProcessorCount,
          .major = p.major,
          .minor = p.minor};
}

std::string driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "asking for the driver's version");
  return version_text(version);
}

std::string runtime_version() {
  int version = 0;
  check(cudaRuntimeGetVersion(&version), "asking for CUDA's version");
  return version_text(version);
}

CUstream_st* stream(int index) {
  static std::mutex mutex;
  static std::array<cudaStream_t, kMostDevices> streams{};
  static thread_local std::array<cudaStream_t, kMostDevices> known{};
  require(0 <= index && index < device_count(),
          [&] { return text("there is no GPU cuda:", index, " on this machine"); });
  make_current(index);
  cudaStream_t& mine = known[static_cast<size_t>(index)];
  if (mine == nullptr) {
    const std::lock_guard lock(mutex);
    cudaStream_t& shared = streams[static_cast<size_t>(index)];
    if (shared == nullptr)
      check(cudaStreamCreateWithFlags(&shared, cudaStreamNonBlocking), "making a stream");
    mine = shared;
  }
  return mine;
}

void synchronize(int index) {
  const cudaError_t error = cudaStreamSynchronize(stream(index));
  if (error == cudaSuccess) return;
  throw Error(text("cuda:", index, " failed in earlier work: ", cudaGetErrorString(error),
                   "; MOAT_SYNC=1 names the call"));
}

bool waits_for_every_call() {
  static const bool waits = [] {
    const char* value = std::getenv("MOAT_SYNC");
    return value != nullptr && std::string(value) == "1";
  }();
  return waits;
}

void* allocate(int index, size_t bytes) {
  make_current(index);
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "allocating memory");
  return block;
}

void release(int index, void* block) {
  make_current(index);
  cudaFree(block);
}

FreeMemory free_memory(int index) {
  make_current(index);
  FreeMemory memory;
  check(cudaMemGetInfo(&memory.free, &memory.total), "asking for free memory");
  return memory;
}

void copy(int index, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream(index)), "copying");
}

void poison(int index, void* block, size_t bytes) {
  synchronize(index);
  check(cudaMemset(block, 0xff, bytes), "filling memory");
  check(cudaDeviceSynchronize(), "filling memory");
}

// Relaxed: the memory pool may allocate while a graph is recorded.
void begin_capture(int index) {
  check(cudaStreamBeginCapture(stream(index), cudaStreamCaptureModeRelaxed), "recording a graph");
}

bool is_capturing(int index) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(index), &status), "recording a graph");
  return status != cudaStreamCaptureStatusNone;
}

CapturedGraph end_capture(int index) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream(index), &graph), "recording a graph");
  size_t nodes = 0;
  CapturedGraph captured;
  cudaError_t error = cudaGraphGetNodes(graph, nullptr, &nodes);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&captured.executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "making a recorded graph ready");
  captured.nodes = static_cast<int64_t>(nodes);
  return captured;
}

void abandon_capture(int index) {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream(index), &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void launch(int index, CUgraphExec_st* executable) {
  check(cudaGraphLaunch(executable, stream(index)), "launching a graph");
}

void destroy(CUgraphExec_st* executable) { cudaGraphExecDestroy(executable); }

CopyStream::CopyStream(int index) : index_(index) {
  make_current(index);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
}

CopyStream::~CopyStream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void CopyStream::copy(void* to, const void* from, size_t bytes) {
  make_current(index_);
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying");
}

void CopyStream::synchronize() {
  make_current(index_);
  check(cudaStreamSynchronize(stream_), "copying");
}

void* allocate_page_locked(size_t bytes) {
  void* block = nullptr;
  check(cudaMallocHost(&block, bytes), "allocating page-locked memory");
  return block;
}

void release_page_locked(void* block) { cudaFreeHost(block); }

}  // namespace moat::engine::cuda
