#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/device.h"

namespace moat::engine {

// A block of memory on one device. Blocks come from a caching allocator: freed blocks are kept by
// size class and handed out again, so a steady training loop asks the system for nothing.
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

// Gives cached blocks back to the system.
void release_cached_memory(Device device = {});

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
