// Device memory: cudaMalloc and its relations over the reserved range, with red zones between
// allocations, and freed memory that is used again as late as possible.

#include <sys/mman.h>

#include <cstring>
#include <map>

#include "tests/simt/core.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

namespace {

// CUDA promises 256 bytes; allocations here are aligned to no more than that.
constexpr size_t kAlignment = 256;

std::map<uintptr_t, size_t> live, freed;  // start -> bytes
uintptr_t next_page = 0;

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

}  // namespace simt

using simt::space;

cudaError_t cudaMalloc(void** address, size_t bytes) {
  using namespace simt;
  make_address_space();
  *address = nullptr;
  if (bytes == 0) return cudaSuccess;
  const uintptr_t heap = space.arena + kHeapStart;
  const size_t whole = pages_for(bytes) * kPageBytes;
  uintptr_t page = find_gap(std::max(next_page, heap), whole);
  if (page == 0) page = find_gap(heap, whole);
  if (page == 0) return cudaErrorMemoryAllocation;
  next_page = page + whole;
  const uintptr_t start = page + kAlignment;
  const auto old = freed.lower_bound(page);
  freed.erase(old, freed.lower_bound(page + whole));
  live[start] = bytes;
  *address = reinterpret_cast<void*>(start);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(reinterpret_cast<void*>(page), whole);
  __asan_unpoison_memory_region(*address, bytes);
#endif
  std::memset(*address, 0xff, bytes);
  open_range(start, bytes, Space::device);
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  using namespace simt;
  if (address == nullptr) return cudaSuccess;
  const auto found = live.find(reinterpret_cast<uintptr_t>(address));
  if (found == live.end()) return cudaErrorInvalidValue;
  close_range(found->first, found->second);
  const uintptr_t page = found->first - kAlignment;
  madvise(reinterpret_cast<void*>(page), pages_for(found->second) * kPageBytes, MADV_DONTNEED);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(address, found->second);
#endif
  freed[found->first] = found->second;
  live.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  using namespace simt;
  if (bytes == 0) return cudaSuccess;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice ||
                         (kind == cudaMemcpyDefault && is_allocated(to, 1));
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice ||
                           (kind == cudaMemcpyDefault && is_allocated(from, 1));
  if (to_device && !is_allocated(to, bytes)) return cudaErrorInvalidValue;
  if (from_device && !is_allocated(from, bytes)) return cudaErrorInvalidValue;
  std::memmove(to, from, bytes);
  if (to_device) mark_set(reinterpret_cast<uintptr_t>(to), bytes, true);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemset(void* address, int byte, size_t bytes) {
  const cudaError_t error = cudaMemsetAsync(address, byte, bytes);
  if (error == cudaSuccess && (byte & 0xff) == 0xff)
    simt::mark_set(reinterpret_cast<uintptr_t>(address), bytes, false);
  return error;
}

cudaError_t cudaMemsetAsync(void* address, int byte, size_t bytes, cudaStream_t) {
  if (bytes == 0) return cudaSuccess;
  if (!simt::is_allocated(address, bytes)) return cudaErrorInvalidValue;
  std::memset(address, byte, bytes);
  simt::mark_set(reinterpret_cast<uintptr_t>(address), bytes, true);
  return cudaSuccess;
}
