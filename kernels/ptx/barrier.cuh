#pragma once

// Barriers: named barriers of a block, and mbarriers, the 8-byte objects in shared memory on which
// threads and asynchronous copies arrive. mbarriers here need sm_90.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, a multiple of 32. Orders memory
// among them as __syncthreads does.
__device__ __forceinline__ void bar_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Makes 8 aligned bytes of shared memory a barrier whose phases each complete after `arrivals`
// arrivals and all bytes that were expected. Phases count 0, 1, 0, …: parity.
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
  if constexpr (kHasSm90)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
  else
    __trap();
}

// After mbarrier_init, before the barrier that tells the block's other threads: makes the
// initialisation visible to asynchronous copies.
__device__ __forceinline__ void fence_mbarrier_init() {
  if constexpr (kHasSm90)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  else
    __trap();
}

// One arrival; releases this thread's earlier writes to those who wait for the phase.
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  if constexpr (kHasSm90)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
  else
    __trap();
}

// First adds `bytes` to what the current phase expects from asynchronous copies, then arrives.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes) {
  if constexpr (kHasSm90)
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
  else
    __trap();
}

// Waits until the phase of this parity is complete (parity 1 of a new barrier is: the phase before
// the first). What was written before its arrivals is visible then.
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  if constexpr (kHasSm90)
    asm volatile(
        "{\n"
        ".reg .pred complete;\n"
        "WAIT:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
        "@complete bra DONE;\n"
        "bra WAIT;\n"
        "DONE:\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
  else
    __trap();
}

}  // namespace moat::kernels::ptx
