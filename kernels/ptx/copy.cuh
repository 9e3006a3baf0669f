#pragma once

// Copies: cp.async (global to shared memory past the registers); a cache hint.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Copies Bytes (4, 8 or 16) from global to shared memory, both aligned to Bytes: the first `filled`
// from `global`, zeros after them. With filled = 0 nothing is read. The bytes are there after a
// cp_async_wait, for this thread; a barrier makes them visible to the others. 16-byte copies stay
// out of L1.
template <int Bytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int filled = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(filled)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                 "l"(global), "n"(Bytes), "r"(filled)
                 : "memory");
}

// The 16-byte copy through L1, for data that several copies of this block read.
__device__ __forceinline__ void cp_async_l1(void* shared, const void* global, int filled = 16) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(filled)
               : "memory");
}

// Closes the group of this thread's copies since the last commit; it may be empty.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most Pending of this thread's newest groups are under way.
template <int Pending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Asks for the cache line at an address to be brought to L2. Each lane's own: the bulk form of it
// (cp.async.bulk.prefetch) takes uniform registers, so that a warp's lanes go one after another.
__device__ __forceinline__ void prefetch_l2(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global) : "memory");
}

}  // namespace moat::kernels::ptx
