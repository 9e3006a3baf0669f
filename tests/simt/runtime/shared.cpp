// Shared memory as 32-bit addresses, and atomics.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/runtime/observe.h"

namespace simt {

namespace {

// Above the 24 bits of an address within a block: 0, or 1 + the rank that mapa named.
constexpr int kRankBits = 24;
constexpr uint32_t kWithinBlock = (1u << kRankBits) - 1;

Block& block_of(uint32_t address) {
  const uint32_t rank = address >> kRankBits;
  if (rank > cluster->blocks.size())
    fail("shared address 0x%x belongs to rank %u of a cluster of %zu", address, rank - 1,
         cluster->blocks.size());
  return rank == 0 ? *current->block : cluster->blocks[rank - 1];
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (const uintptr_t offset = address - space.arena; offset < kHeapStart) {
    const auto rank = static_cast<int>(offset / kSharedStride);
    const auto within = kDynamicShared + static_cast<uint32_t>(offset % kSharedStride);
    return rank == current->block->rank ? within : shared_address_at_rank(within, rank);
  }
  if (address - space.static_shared < space.static_bytes)
    return kStaticShared + static_cast<uint32_t>(address - space.static_shared);
  fail("%p is no address of shared memory (%s)", pointer, describe(address).c_str());
}

void* shared_pointer(uint32_t address) {
  const Block& block = block_of(address);
  const uint32_t within = address & kWithinBlock;
  if (within >= kStaticShared)
    return reinterpret_cast<char*>(space.static_shared) + (within - kStaticShared);
  if (within < kDynamicShared || within - kDynamicShared >= running->shared_bytes)
    fail("out of bounds: shared address 0x%x is outside the %zu bytes of dynamic shared memory",
         address, running->shared_bytes);
  return block.dynamic + (within - kDynamicShared);
}

uint32_t shared_address_at_rank(uint32_t address, int rank) {
  if ((address & kWithinBlock) >= kStaticShared && cluster->blocks.size() > 1)
    fail("static shared memory is not seen by other blocks of the cluster: use dynamic");
  if (rank < 0 || rank >= static_cast<int>(cluster->blocks.size()))
    fail("mapa: rank %d of a cluster of %zu", rank, cluster->blocks.size());
  return static_cast<uint32_t>(rank + 1) << kRankBits | (address & kWithinBlock);
}

void* shared_pointer_at_rank(const void* pointer, int rank) {
  return shared_pointer(shared_address_at_rank(shared_address(pointer), rank));
}

int shared_rank(uint32_t address) { return block_of(address).rank; }

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
