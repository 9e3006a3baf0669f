#include "engine/graph.h"

#include "engine/cuda/runtime.h"
#include "engine/error.h"
#include "engine/memory.h"

namespace moat::engine {

Graph::Graph(Device gpu, std::shared_ptr<MemoryPool> pool, const std::function<void()>& function)
    : gpu_(gpu), pool_(std::move(pool)) {
  require(can_record_graphs(gpu),
          [&] { return text("graphs are recorded on a GPU, not on ", name_of(gpu)); });
  if constexpr (kCudaBuilt) {
    release_cached_memory(gpu);  // the graph needs as much of its own
    const PoolScope own_memory(pool_);
    cuda::begin_capture(gpu.index);
    try {
      function();
    } catch (...) {
      cuda::abandon_capture(gpu.index);
      throw;
    }
    const cuda::CapturedGraph captured = cuda::end_capture(gpu.index);
    executable_ = captured.executable;
    nodes_ = captured.nodes;
  }
}

Graph::~Graph() {
  if constexpr (kCudaBuilt)
    if (executable_) cuda::destroy(executable_);
}

void Graph::launch() {
  if constexpr (kCudaBuilt) cuda::launch(gpu_.index, executable_);
}

bool can_record_graphs(Device device) {
  if constexpr (kCudaBuilt) return !device.is_cpu() && !cuda::waits_for_every_call();
  return false;
}

void require_not_recording(Device device, const char* what) {
  if constexpr (kCudaBuilt)
    require(device.is_cpu() || !cuda::is_capturing(device.index), [&] {
      return text(what, ": results cannot be read on the host while a graph is recorded");
    });
}

}  // namespace moat::engine
