#pragma once

// All that the engine asks of CUDA's runtime. Only builds with CUDA define these functions, and
// only code behind `if constexpr (kCudaBuilt)` calls them. They throw Error with CUDA's own reason.

#include <cstddef>
#include <cstdint>
#include <string>

struct CUstream_st;
struct CUgraphExec_st;

namespace moat::engine::cuda {

// GPUs of sm_80 or later that this machine's driver gives; 0 where there is no driver either.
int device_count();
// Why device_count() is 0, as CUDA says it.
std::string why_no_device();

struct Properties {
  std::string name;
  size_t memory_bytes = 0;
  int multiprocessors = 0, major = 0, minor = 0;  // compute capability
};
Properties properties(int index);
std::string driver_version();   // newest CUDA that the driver knows: "13.0"
std::string runtime_version();  // what this program was built with

// The engine's one stream on a GPU, made on first use; work and memory follow its order. Makes the
// GPU current for the calling thread.
CUstream_st* stream(int index);
void synchronize(int index);  // throws what asynchronous work has done wrong by then

// True with MOAT_SYNC=1 in the environment: every call is waited for, so that an error names its
// place.
bool waits_for_every_call();

void* allocate(int index, size_t bytes);  // nullptr when there is not enough
void release(int index, void* block);
struct FreeMemory {
  size_t free = 0, total = 0;
};
FreeMemory free_memory(int index);

// In the stream's order; a host address, of pageable memory, may be used again when the call
// returns.
void copy(int index, void* to, const void* from, size_t bytes);
void poison(int index, void* block, size_t bytes);  // 0xff; waits

// Recording: what is enqueued in between is not run but becomes a graph.
void begin_capture(int index);
bool is_capturing(int index);
struct CapturedGraph {
  CUgraphExec_st* executable = nullptr;
  int64_t nodes = 0;  // kernels and copies
};
CapturedGraph end_capture(int index);
void abandon_capture(int index);
void launch(int index, CUgraphExec_st* executable);
void destroy(CUgraphExec_st* executable);

// A second stream, for a thread that brings data while the engine's stream computes.
class CopyStream {
 public:
  explicit CopyStream(int index);
  ~CopyStream();
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  void copy(void* to, const void* from, size_t bytes);  // `from` is page-locked
  void synchronize();                                   // until the copies are done

 private:
  int index_;
  CUstream_st* stream_ = nullptr;
};

// Page-locked host memory, which copies run from without the CPU.
void* allocate_page_locked(size_t bytes);
void release_page_locked(void* block);

}  // namespace moat::engine::cuda
