// Graphs: what streams record instead of doing it, and do when the graph is launched.

#include <algorithm>
#include <unordered_set>

#include "tests/simt/runtime/guard.h"
#include "tests/simt/runtime/streams.h"

struct CUgraph_st {
  simt::Nodes nodes;
};
struct CUgraphExec_st {
  simt::Nodes nodes;
};

namespace simt {

namespace {

std::vector<std::shared_ptr<Capture>> captures;  // that have begun and not ended
std::unordered_set<cudaGraph_t> graphs;
std::unordered_set<cudaGraphExec_t> executables;

// Invalidates the captures that `is_concerned` and returns `error` if there are any.
template <class Concerned>
cudaError_t refuse(cudaError_t error, Concerned is_concerned) {
  bool any = false;
  for (const auto& capture : captures)
    if (is_concerned(*capture)) any = capture->is_invalidated = true;
  return any ? error : cudaSuccess;
}

// Work of the default stream would wait for that of a blocking stream, which has not been done.
cudaError_t may_use_default_stream() {
  return refuse(cudaErrorStreamCaptureImplicit, [](const Capture& capture) {
    return std::any_of(capture.streams.begin(), capture.streams.end(), [](const auto& entry) {
      return is_stream(entry.first) && !(entry.first->flags & cudaStreamNonBlocking);
    });
  });
}

cudaError_t begin(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  if (stream->capture) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->streams[stream] = {};
  stream->capture = capture;
  captures.push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t end(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (stream == nullptr || !stream->capture) return cudaErrorIllegalState;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture->origin != stream) {
    capture->is_invalidated = true;
    return cudaErrorStreamCaptureUnmatched;
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id()) {
    capture->is_invalidated = true;
    return cudaErrorStreamCaptureWrongThread;
  }
  capture->is_over = true;
  captures.erase(std::find(captures.begin(), captures.end(), capture));
  bool is_joined = true;
  Progress& known = capture->streams[stream];
  for (auto& [member, progress] : capture->streams) {
    is_joined = is_joined && known[member] >= progress[member];
    if (is_stream(member)) member->capture = nullptr;
  }
  if (capture->is_invalidated) return cudaErrorStreamCaptureInvalidated;
  if (!is_joined) return cudaErrorStreamCaptureUnjoined;
  graphs.insert(*graph = new CUgraph_st{std::move(capture->nodes)});
  return cudaSuccess;
}

cudaError_t get_nodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (graphs.count(graph) == 0 || !count) return cudaErrorInvalidValue;
  for (size_t i = 0; nodes && i < *count; ++i)
    nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
  *count = nodes ? std::min(*count, graph->nodes.size()) : graph->nodes.size();
  return cudaSuccess;
}

}  // namespace

bool is_capturing(cudaStream_t stream) { return stream && stream->capture; }

cudaError_t may_enqueue(cudaStream_t stream) {
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (stream == nullptr) return captures.empty() ? cudaSuccess : may_use_default_stream();
  if (!stream->capture) return cudaSuccess;
  return stream->capture->is_invalidated ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

void add_node(cudaStream_t stream, cudaGraphNodeType type, std::function<void()> run) {
  Capture& capture = *stream->capture;
  capture.nodes.push_back(std::make_shared<CUgraphNode_st>(type, std::move(run)));
  ++capture.streams[stream][stream];
}

cudaError_t may_wait() {
  return refuse(cudaErrorStreamCaptureUnsupported, [](const Capture&) { return true; });
}

cudaError_t may_wait_implicitly() {
  return refuse(cudaErrorStreamCaptureUnsupported, [](const Capture& capture) {
    if (capture.mode == cudaStreamCaptureModeGlobal) return true;
    return capture.mode == cudaStreamCaptureModeThreadLocal &&
           capture.thread == std::this_thread::get_id();
  });
}

cudaError_t may_wait_for(cudaStream_t stream) {
  if (!is_stream(stream)) return cudaErrorInvalidResourceHandle;
  if (stream == nullptr) return captures.empty() ? cudaSuccess : may_use_default_stream();
  if (!stream->capture) return cudaSuccess;
  stream->capture->is_invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t may_copy_synchronously() {
  return refuse(cudaErrorStreamCaptureUnsupported, [](const Capture& capture) {
    return capture.mode == cudaStreamCaptureModeGlobal ||
           capture.thread == std::this_thread::get_id();
  });
}

void abandon_capture(cudaStream_t origin) {
  std::erase_if(captures, [&](const auto& capture) {
    if (capture->origin != origin) return false;
    for (auto& [member, progress] : capture->streams)
      if (is_stream(member)) member->capture = nullptr;
    return capture->is_over = true;
  });
}

cudaError_t run_on_stream(cudaStream_t stream, std::function<void()> work) {
  const Turn turn(host_mutex());
  return remember(enqueue(stream, cudaGraphNodeTypeKernel, [work = std::move(work)] {
    const DeviceAccess access;
    work();
  }));
}

}  // namespace simt

using simt::remember;
using simt::Turn;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Turn turn(simt::host_mutex());
  return remember(simt::begin(stream, mode));
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Turn turn(simt::host_mutex());
  return remember(simt::end(stream, graph));
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Turn turn(simt::host_mutex());
  if (!simt::is_stream(stream)) return remember(cudaErrorInvalidResourceHandle);
  if (!simt::is_capturing(stream))
    *status = cudaStreamCaptureStatusNone;
  else
    *status = stream->capture->is_invalidated ? cudaStreamCaptureStatusInvalidated
                                              : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Turn turn(simt::host_mutex());
  return remember(simt::get_nodes(graph, nodes, count));
}
cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  if (!node || !type) return remember(cudaErrorInvalidValue);
  return *type = node->type, cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const Turn turn(simt::host_mutex());
  if (!executable || simt::graphs.count(graph) == 0) return remember(cudaErrorInvalidValue);
  simt::executables.insert(*executable = new CUgraphExec_st{graph->nodes});
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  if (simt::executables.count(executable) == 0) return remember(cudaErrorInvalidValue);
  return remember(simt::enqueue(stream, cudaGraphNodeTypeGraph, [nodes = executable->nodes] {
    const simt::DeviceAccess access;
    for (const auto& node : nodes) node->run();
  }));
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Turn turn(simt::host_mutex());
  if (simt::graphs.erase(graph) == 0) return remember(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Turn turn(simt::host_mutex());
  if (simt::executables.erase(executable) == 0) return remember(cudaErrorInvalidValue);
  delete executable;
  return cudaSuccess;
}
