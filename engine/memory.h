#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/device.h"

namespace moat::engine {

class MemoryPool;

// A block of memory on one device. Blocks come from a pool: freed ones are kept by size class and
// handed out again, so that a steady training loop asks the system for nothing; on a CPU they go
// back once they are more than was ever live. On a GPU all work runs in the order of one stream, so
// that a block may be handed out while the work of its last owner is still to come.
class Storage {
 public:
  Storage(size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  // Names the content: no two contents of any storages have the same number. Whatever writes into a
  // tensor that others may have derived something from (packed weights) calls mark_written().
  uint64_t version() const { return version_; }
  void mark_written();

 private:
  std::shared_ptr<MemoryPool> pool_;
  void* data_;
  size_t bytes_;
  Device device_;
  uint64_t version_;
};

struct MemoryUse {
  size_t live = 0;    // bytes in tensors now
  size_t cached = 0;  // bytes kept for reuse
  size_t peak = 0;    // the most `live` since reset_peak_memory()
};
MemoryUse memory_use(Device device = {});
void reset_peak_memory(Device device = {});

// Gives cached blocks back to the system: those of no graph, or of one graph's pool, which no graph
// may use any more.
void release_cached_memory(Device device = {});
void release_cached_memory(MemoryPool& pool);

// A pool of its own for what lives only in a recorded graph: its blocks keep their addresses, and
// nothing else gets them, until the last owner of the pool is gone. While a PoolScope is alive,
// this thread's fresh blocks on the pool's device come from it.
std::shared_ptr<MemoryPool> make_memory_pool(Device device);
class PoolScope {
 public:
  explicit PoolScope(std::shared_ptr<MemoryPool> pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  std::shared_ptr<MemoryPool> outer_;
};

// While alive, fresh blocks are filled with 0xFF bytes: NaN in every floating format. Tests use it
// to show that a kernel writes all of its output and reads nothing it was not given.
class PoisonScope {
 public:
  PoisonScope();
  ~PoisonScope();
  PoisonScope(const PoisonScope&) = delete;
  PoisonScope& operator=(const PoisonScope&) = delete;
};

}  // namespace moat::engine
