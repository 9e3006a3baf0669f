#include "engine/memory.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/cuda/runtime.h"
#include "engine/error.h"

namespace moat::engine {

namespace {

std::atomic<int> poison_scopes{0};

size_t alignment(Device device) { return device.is_cpu() ? 64 : 256; }

// Eight classes per power of two: at most an eighth of a block is never used.
size_t size_class(size_t bytes, size_t alignment) {
  bytes = std::max(bytes, alignment);
  const size_t step = std::max(alignment, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

// nullptr when the device has not as much.
void* ask_system(Device device, size_t bytes) {
  if (device.is_cpu()) return std::aligned_alloc(alignment(device), bytes);
  if constexpr (kCudaBuilt) return cuda::allocate(device.index, bytes);
  return nullptr;
}

void give_to_system(Device device, void* block) {
  if (device.is_cpu()) return std::free(block);
  if constexpr (kCudaBuilt) cuda::release(device.index, block);
}

bool records_graph(Device device) {
  if constexpr (kCudaBuilt) return !device.is_cpu() && cuda::is_capturing(device.index);
  return false;
}

std::string in_words(size_t bytes) {
  if (bytes < 10 * 1024) return text(bytes, " bytes");
  if (bytes < size_t{10} << 20) return text(bytes >> 10, " KiB");
  if (bytes < size_t{10} << 30) return text(bytes >> 20, " MiB");
  return text(bytes >> 30, " GiB");
}

// All pools of a device together.
struct Account {
  std::mutex mutex;
  MemoryUse use;
};
Account& account(Device device) {
  static std::mutex mutex;
  static auto& all = *new std::map<std::pair<int, int>, Account>;
  const std::lock_guard lock(mutex);
  return all[{device.type, device.index}];
}

}  // namespace

class MemoryPool {
 public:
  explicit MemoryPool(Device device) : device_(device), account_(account(device)) {}
  ~MemoryPool() { release(); }
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  Device device() const { return device_; }

  void* take(size_t bytes) {
    const size_t size = size_class(bytes, alignment(device_));
    if (void* block = take_cached(size)) return block;
    if (device_.is_cpu() && keeps_too_much()) release();
    void* block = ask_system(device_, size);
    if (!block && !records_graph(device_)) {
      release();
      release_cached_memory(device_);
      block = ask_system(device_, size);
    }
    const std::lock_guard lock(account_.mutex);
    if (!block) throw Error(out_of_memory(size));
    count_live(size);
    return block;
  }

  void give(void* block, size_t bytes) {
    const size_t size = size_class(bytes, alignment(device_));
    const std::lock_guard lock(account_.mutex);
    account_.use.live -= size;
    account_.use.cached += size;
    free_[size].push_back(block);
  }

  void release() {
    const std::lock_guard lock(account_.mutex);
    for (auto& [size, blocks] : free_)
      for (void* block : blocks) {
        give_to_system(device_, block);
        account_.use.cached -= size;
      }
    free_.clear();
  }

 private:
  void* take_cached(size_t size) {
    const std::lock_guard lock(account_.mutex);
    const auto found = free_.find(size);
    if (found == free_.end() || found->second.empty()) return nullptr;
    void* block = found->second.back();
    found->second.pop_back();
    account_.use.cached -= size;
    count_live(size);
    return block;
  }

  // More than was ever needed at once: blocks of sizes that do not come again, as of an attack
  // whose batch shrinks. On a GPU batches have few sizes (attacks::rounded_up), and freeing waits
  // for it.
  bool keeps_too_much() {
    const std::lock_guard lock(account_.mutex);
    return account_.use.cached > account_.use.peak;
  }

  void count_live(size_t size) {
    account_.use.live += size;
    account_.use.peak = std::max(account_.use.peak, account_.use.live);
  }

  std::string out_of_memory(size_t size) const {
    const std::string asked = text("out of memory on ", name_of(device_), ": asked for ",
                                   in_words(size), " with ", in_words(account_.use.live),
                                   " in use, ", in_words(account_.use.cached), " kept for reuse");
    const char* remedy =
        "; half the batch (train.batch, eval.batch) needs half, --precision bf16 nearly half";
    if constexpr (kCudaBuilt)
      if (!device_.is_cpu()) {
        const cuda::FreeMemory memory = cuda::free_memory(device_.index);
        return text(asked, " and ", in_words(memory.free), " of ", in_words(memory.total), " free",
                    remedy);
      }
    return asked + remedy;
  }

  Device device_;
  Account& account_;
  std::unordered_map<size_t, std::vector<void*>> free_;
};

namespace {

thread_local std::shared_ptr<MemoryPool> scoped_pool;

// Leaked on purpose: storages held by static objects may outlive any destructor order.
const std::shared_ptr<MemoryPool>& general_pool(Device device) {
  require(device.is_cpu() || kCudaBuilt, "this build has no CUDA: use --device cpu");
  static std::mutex mutex;
  static auto& pools = *new std::map<std::pair<int, int>, std::shared_ptr<MemoryPool>>;
  const std::lock_guard lock(mutex);
  auto& pool = pools[{device.type, device.index}];
  if (!pool) pool = make_memory_pool(device);
  return pool;
}

std::shared_ptr<MemoryPool> pool_for(Device device) {
  return scoped_pool && scoped_pool->device() == device ? scoped_pool : general_pool(device);
}

void poison(Device device, void* data, size_t bytes) {
  if (device.is_cpu()) {
    std::memset(data, 0xff, bytes);
    return;
  }
  if constexpr (kCudaBuilt) cuda::poison(device.index, data, bytes);
}

}  // namespace

Storage::Storage(size_t bytes, Device device)
    : pool_(pool_for(device)), data_(pool_->take(bytes)), bytes_(bytes), device_(device) {
  mark_written();
  if (poison_scopes > 0 && !records_graph(device)) poison(device, data_, bytes);
}
void Storage::mark_written() {
  static std::atomic<uint64_t> count{0};
  version_ = ++count;
}
Storage::~Storage() { pool_->give(data_, bytes_); }

MemoryUse memory_use(Device device) {
  Account& of = account(device);
  const std::lock_guard lock(of.mutex);
  return of.use;
}
void reset_peak_memory(Device device) {
  Account& of = account(device);
  const std::lock_guard lock(of.mutex);
  of.use.peak = of.use.live;
}
void release_cached_memory(Device device) { general_pool(device)->release(); }
void release_cached_memory(MemoryPool& pool) { pool.release(); }

std::shared_ptr<MemoryPool> make_memory_pool(Device device) {
  return std::make_shared<MemoryPool>(device);
}

PoolScope::PoolScope(std::shared_ptr<MemoryPool> pool)
    : outer_(std::exchange(scoped_pool, std::move(pool))) {}
PoolScope::~PoolScope() { scoped_pool = std::move(outer_); }

PoisonScope::PoisonScope() { ++poison_scopes; }
PoisonScope::~PoisonScope() { --poison_scopes; }

}  // namespace moat::engine
