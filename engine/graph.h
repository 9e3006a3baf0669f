#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/device.h"

struct CUgraphExec_st;

namespace moat::engine {

class MemoryPool;

// What a function enqueues on a GPU, recorded once and launched again as one piece: a launch costs
// the CPU microseconds, however many kernels it has.
//
// A launch runs the recorded kernels on the recorded addresses with the recorded numbers (learning
// rates, random keys): what changes between launches must be written into tensors that the function
// only reads, and what it made must be read before the next launch. The function must not look at
// results on the host; a copy to the host throws. What the function derives from tensors that
// launches change (folded weights) must be derived inside: mark them written before recording, and
// after a launch.
class Graph {
 public:
  // `pool` gives the tensors made inside; graphs that share one must not run at the same time, and
  // what one of them made is gone when another one has run.
  Graph(Device gpu, std::shared_ptr<MemoryPool> pool, const std::function<void()>& function);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch();
  int64_t nodes() const { return nodes_; }  // kernels and copies of a launch

 private:
  Device gpu_;
  std::shared_ptr<MemoryPool> pool_;
  CUgraphExec_st* executable_ = nullptr;
  int64_t nodes_ = 0;
};

// False on a CPU, and with MOAT_SYNC=1.
bool can_record_graphs(Device device);

// Throws when `device` records: `what` needs results on the host.
void require_not_recording(Device device, const char* what);

}  // namespace moat::engine
