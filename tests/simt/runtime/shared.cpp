// Shared memory as 32-bit addresses, and atomics.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/runtime/observe.h"

namespace simt {

uint32_t shared_address(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (const uintptr_t offset = address - space.arena; offset < kHeapStart)
    return kDynamicShared + static_cast<uint32_t>(offset);
  if (address - space.static_shared < space.static_bytes)
    return kStaticShared + static_cast<uint32_t>(address - space.static_shared);
  fail("%p is no address of shared memory (%s)", pointer, describe(address).c_str());
}

void* shared_pointer(uint32_t address) {
  if (address >= kStaticShared)
    return reinterpret_cast<char*>(space.static_shared) + (address - kStaticShared);
  if (address < kDynamicShared || address - kDynamicShared >= running->shared_bytes)
    fail("out of bounds: shared address 0x%x is outside the %zu bytes of dynamic shared memory",
         address, running->shared_bytes);
  return block->dynamic + (address - kDynamicShared);
}

void atomic_read(void* address, size_t bytes, void* value) {
  if (current) {
    const auto code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
    maybe_preempt();
    if (reinterpret_cast<uintptr_t>(address) % bytes)
      fail("misaligned: %zu-byte atomic%s (%s)", bytes, at(code).c_str(),
           describe(reinterpret_cast<uintptr_t>(address)).c_str());
    observe(*current, address, bytes, Access::atomic, code);
    if (observing) order_atomic(*current, address);
  }
  std::memcpy(value, address, bytes);
}

void atomic_write(void* address, size_t bytes, const void* value) {
  std::memcpy(address, value, bytes);
}

}  // namespace simt
