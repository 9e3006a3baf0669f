#include "engine/memory.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/error.h"

namespace moat::engine {

namespace {

constexpr size_t kAlignment = 64;
std::atomic<int> poison_scopes{0};

// Eight classes per power of two: at most an eighth of a block is never used.
size_t size_class(size_t bytes) {
  bytes = std::max(bytes, kAlignment);
  const size_t step = std::max(kAlignment, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

class CpuAllocator {
 public:
  void* take(size_t bytes) {
    const size_t size = size_class(bytes);
    const std::lock_guard lock(mutex_);
    use_.live += size;
    use_.peak = std::max(use_.peak, use_.live);
    auto& blocks = free_[size];
    if (!blocks.empty()) {
      void* block = blocks.back();
      blocks.pop_back();
      use_.cached -= size;
      return block;
    }
    void* block = std::aligned_alloc(kAlignment, size);
    if (!block) {
      release_locked();
      block = std::aligned_alloc(kAlignment, size);
    }
    if (!block) {
      use_.live -= size;
      throw Error(text("out of memory: asked for ", bytes, " bytes with ", use_.live,
                       " in use; a smaller batch needs less"));
    }
    return block;
  }

  void give(void* block, size_t bytes) {
    const size_t size = size_class(bytes);
    const std::lock_guard lock(mutex_);
    use_.live -= size;
    use_.cached += size;
    free_[size].push_back(block);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_locked();
  }

  MemoryUse use() {
    const std::lock_guard lock(mutex_);
    return use_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    use_.peak = use_.live;
  }

 private:
  void release_locked() {
    for (auto& [size, blocks] : free_)
      for (void* block : blocks) std::free(block);
    free_.clear();
    use_.cached = 0;
  }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  MemoryUse use_;
};

// Leaked on purpose: storages held by static objects may outlive any destructor order.
CpuAllocator& allocator(Device device) {
  require(device.is_cpu(), "this build has no CUDA: use --device cpu");
  static CpuAllocator& cpu = *new CpuAllocator;
  return cpu;
}

}  // namespace

Storage::Storage(size_t bytes, Device device)
    : data_(allocator(device).take(bytes)), bytes_(bytes), device_(device) {
  mark_written();
  if (poison_scopes > 0) std::memset(data_, 0xff, bytes);
}
void Storage::mark_written() {
  static std::atomic<uint64_t> count{0};
  version_ = ++count;
}
Storage::~Storage() { allocator(device_).give(data_, bytes_); }

MemoryUse memory_use(Device device) { return allocator(device).use(); }
void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release(); }

PoisonScope::PoisonScope() { ++poison_scopes; }
PoisonScope::~PoisonScope() { --poison_scopes; }

}  // namespace moat::engine
