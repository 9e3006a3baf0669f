#pragma once

// What the host enqueues is run at once or, with options().late_streams, when something waits for
// it, or becomes a node of the graph that its stream records.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tests/simt/device/host.h"

struct CUgraphNode_st {
  cudaGraphNodeType type;
  std::function<void()> run;
};

namespace simt {

// Threads of the host take turns: every call that touches the device holds this.
std::recursive_mutex& host_mutex();
using Turn = std::lock_guard<std::recursive_mutex>;

// `error`, which cudaGetLastError returns to this thread if it is one.
cudaError_t remember(cudaError_t error);

using Nodes = std::vector<std::shared_ptr<CUgraphNode_st>>;
// Of how many nodes of each stream of a capture it is known that they come before.
using Progress = std::map<cudaStream_t, size_t>;

// A graph that is being recorded. Nodes are kept in the order in which they were enqueued, which
// is one that the streams allow.
struct Capture {
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool is_invalidated = false, is_over = false;
  Nodes nodes;
  std::map<cudaStream_t, Progress> streams;  // that record into it, and what each is ordered after
};

bool is_stream(cudaStream_t stream);  // nullptr is the default stream

// An error if nothing may be enqueued on `stream`.
cudaError_t may_enqueue(cudaStream_t stream);
bool is_capturing(cudaStream_t stream);
void add_node(cudaStream_t stream, cudaGraphNodeType type, std::function<void()> run);
// Work on a stream that records nothing: done at once, or with options().late_streams put off until
// something waits for the stream.
void do_or_put_off(cudaStream_t stream, std::function<void()> work);
void finish(cudaStream_t stream);  // what has been put off; of nullptr, of all streams
// What a call that waits must ask first, because recorded work has not been done; the answers
// invalidate the captures concerned. For the device; for one stream; for a synchronous copy, which
// no capture of this thread survives; and for what may wait inside CUDA, which is legal in relaxed
// mode.
cudaError_t may_wait();
cudaError_t may_wait_for(cudaStream_t stream);
cudaError_t may_copy_synchronously();
cudaError_t may_wait_implicitly();
void abandon_capture(cudaStream_t origin);

template <class Work>
cudaError_t enqueue(cudaStream_t stream, cudaGraphNodeType type, Work work) {
  if (const cudaError_t error = may_enqueue(stream)) return error;
  if (is_capturing(stream))
    add_node(stream, type, std::move(work));
  else
    do_or_put_off(stream, std::move(work));
  return cudaSuccess;
}

}  // namespace simt

struct CUstream_st {
  unsigned flags;
  std::shared_ptr<simt::Capture> capture = {};
  std::vector<std::function<void()>> put_off = {};
};

struct CUevent_st {
  unsigned flags;
  bool is_recorded = false;
  cudaStream_t stream = nullptr;  // that it was recorded on
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<simt::Capture> capture;  // that it was recorded in, and where
  simt::Progress progress;
};
