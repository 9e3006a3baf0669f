// Device memory: cudaMalloc and its relations over the reserved range, with red zones between
// allocations, and freed memory that is used again as late as possible; and page-locked memory.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/simt/core.h"
#include "tests/simt/runtime/guard.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"
#include "tests/simt/runtime/streams.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

namespace {

// CUDA promises 256 bytes; allocations here are aligned to no more than that.
constexpr size_t kAlignment = 256;

std::map<uintptr_t, size_t> live, freed;  // start -> bytes
std::map<uintptr_t, size_t> page_locked;  // of the host
size_t used = 0;                          // of Options::device_memory
uintptr_t next_page = 0, highest_page = 0;

size_t pages_for(size_t bytes) { return (kAlignment + bytes + kPageBytes - 1) / kPageBytes + 1; }

// The first gap of `bytes` at or after `from`, whole pages; 0 if there is none.
uintptr_t find_gap(uintptr_t from, size_t bytes) {
  const uintptr_t end = space.arena + kArenaBytes;
  auto after = live.lower_bound(from);
  while (from + bytes <= end) {
    if (after == live.end() || from + bytes <= after->first - kAlignment) return from;
    from = after->first - kAlignment + pages_for(after->second) * kPageBytes;
    ++after;
  }
  return 0;
}

std::map<uintptr_t, size_t>::const_iterator containing(const std::map<uintptr_t, size_t>& ranges,
                                                       uintptr_t address, size_t slack) {
  auto found = ranges.upper_bound(address + slack);
  if (found == ranges.begin()) return ranges.end();
  --found;
  return address < found->first + found->second + slack ? found : ranges.end();
}

}  // namespace

std::string describe_device(uintptr_t address) {
  char text[160];
  if (const auto in = containing(live, address, 0); in != live.end()) {
    snprintf(text, sizeof(text), "byte %zu of an allocation of %zu bytes", address - in->first,
             in->second);
  } else if (const auto old = containing(freed, address, 0); old != freed.end()) {
    snprintf(text, sizeof(text), "byte %zu of freed memory (%zu bytes)", address - old->first,
             old->second);
  } else if (const auto by = containing(live, address, kPageBytes); by != live.end()) {
    if (address < by->first)
      snprintf(text, sizeof(text), "%zu bytes before an allocation of %zu bytes",
               by->first - address, by->second);
    else
      snprintf(text, sizeof(text), "%zu bytes past the end of an allocation of %zu bytes",
               address - by->first - by->second, by->second);
  } else {
    snprintf(text, sizeof(text), "address %p, which is no device memory",
             reinterpret_cast<void*>(address));
  }
  return text;
}

bool is_allocated(const void* address, size_t bytes) {
  const auto start = reinterpret_cast<uintptr_t>(address);
  const auto in = containing(live, start, 0);
  return in != live.end() && start + bytes <= in->first + in->second;
}

size_t heap_end() { return highest_page ? highest_page - space.arena : 0; }

bool is_in_heap(const void* address) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - space.arena;
  return space.arena && offset >= kHeapStart && offset < kArenaBytes;
}

bool is_page_locked(const void* address, size_t bytes) {
  const auto start = reinterpret_cast<uintptr_t>(address);
  const auto in = containing(page_locked, start, 0);
  return in != page_locked.end() && start + bytes <= in->first + in->second;
}

DeviceMemory device_memory() {
  const size_t total = std::min(options().device_memory, kArenaBytes - kHeapStart);
  return {.free = total - std::min(total, used), .total = total};
}

namespace {

size_t rounded_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

cudaError_t allocate_device(void** address, size_t bytes) {
  if (!address) return cudaErrorInvalidValue;
  *address = nullptr;
  if (const cudaError_t error = may_wait_implicitly()) return error;
  if (bytes == 0) return cudaSuccess;
  if (bytes > kArenaBytes || rounded_up(bytes) > device_memory().free)
    return cudaErrorMemoryAllocation;
  const DeviceAccess access;
  make_address_space();
  const uintptr_t heap = space.arena + kHeapStart;
  const size_t whole = pages_for(bytes) * kPageBytes;
  uintptr_t page = find_gap(std::max(next_page, heap), whole);
  if (page == 0) page = find_gap(heap, whole);
  if (page == 0) return cudaErrorMemoryAllocation;
  next_page = page + whole;
  highest_page = std::max(highest_page, next_page);
  const uintptr_t start = page + kAlignment;
  const auto old = freed.lower_bound(page);
  freed.erase(old, freed.lower_bound(page + whole));
  live[start] = bytes;
  used += rounded_up(bytes);
  *address = reinterpret_cast<void*>(start);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(reinterpret_cast<void*>(page), whole);
  __asan_unpoison_memory_region(*address, bytes);
#endif
  std::memset(*address, 0xff, bytes);
  open_range(start, bytes, Space::device);
  return cudaSuccess;
}

cudaError_t release_device(void* address) {
  if (address == nullptr) return cudaSuccess;
  if (const cudaError_t error = may_copy_synchronously()) return error;
  finish(nullptr);
  const auto found = live.find(reinterpret_cast<uintptr_t>(address));
  if (found == live.end()) return cudaErrorInvalidValue;
  close_range(found->first, found->second);
  const uintptr_t page = found->first - kAlignment;
  madvise(reinterpret_cast<void*>(page), pages_for(found->second) * kPageBytes, MADV_DONTNEED);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(address, found->second);
#endif
  used -= rounded_up(found->second);
  freed[found->first] = found->second;
  live.erase(found);
  return cudaSuccess;
}

cudaError_t allocate_page_locked(void** address, size_t bytes) {
  if (!address) return cudaErrorInvalidValue;
  *address = nullptr;
  if (const cudaError_t error = may_wait_implicitly()) return error;
  if (bytes == 0) return cudaSuccess;
  const size_t whole = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (whole < bytes || !(*address = std::aligned_alloc(kPageBytes, whole)))
    return cudaErrorMemoryAllocation;
  page_locked[reinterpret_cast<uintptr_t>(*address)] = bytes;
  return cudaSuccess;
}

cudaError_t release_page_locked(void* address) {
  if (address == nullptr) return cudaSuccess;
  if (const cudaError_t error = may_copy_synchronously()) return error;
  finish(nullptr);
  if (page_locked.erase(reinterpret_cast<uintptr_t>(address)) == 0) return cudaErrorInvalidValue;
  std::free(address);
  return cudaSuccess;
}

}  // namespace

}  // namespace simt

using simt::remember;
using simt::Turn;

cudaError_t cudaMalloc(void** address, size_t bytes) {
  const Turn turn(simt::host_mutex());
  return remember(simt::allocate_device(address, bytes));
}
cudaError_t cudaFree(void* address) {
  const Turn turn(simt::host_mutex());
  return remember(simt::release_device(address));
}
cudaError_t cudaMallocHost(void** address, size_t bytes) {
  return cudaHostAlloc(address, bytes, cudaHostAllocDefault);
}
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  const Turn turn(simt::host_mutex());
  return remember(simt::allocate_page_locked(address, bytes));
}
cudaError_t cudaFreeHost(void* address) {
  const Turn turn(simt::host_mutex());
  return remember(simt::release_page_locked(address));
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Turn turn(simt::host_mutex());
  const simt::DeviceMemory memory = simt::device_memory();
  *free = memory.free;
  *total = memory.total;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Turn turn(simt::host_mutex());
  if (!attributes) return remember(cudaErrorInvalidValue);
  auto* pointer = const_cast<void*>(address);
  if (simt::is_allocated(address, 1))
    *attributes = {cudaMemoryTypeDevice, 0, pointer, nullptr};
  else if (simt::is_page_locked(address, 1))
    *attributes = {cudaMemoryTypeHost, 0, pointer, pointer};
  else
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, pointer};
  return cudaSuccess;
}
