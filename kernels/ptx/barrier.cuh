#pragma once

// Barriers: named barriers of a block, and mbarriers, the 8-byte objects in shared memory on which
// threads and asynchronous copies arrive. mbarriers here need sm_90.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, a multiple of 32, those that
// only arrive included. Orders memory among them as __syncthreads does.
__device__ __forceinline__ void bar_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void bar_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
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

// Ends the barrier's life: its 8 bytes are ordinary memory again.
__device__ __forceinline__ void mbarrier_inval(uint64_t* barrier) {
  if constexpr (kHasSm90)
    asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
  else
    __trap();
}

// After mbarrier_init, before the barrier that tells the other threads (of the block or of the
// cluster): makes the initialisation visible to the cluster and to asynchronous copies.
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

// Adds `bytes` to what the current phase expects, without an arrival.
__device__ __forceinline__ void mbarrier_expect_tx(uint64_t* barrier, uint32_t bytes) {
  if constexpr (kHasSm90)
    asm volatile("mbarrier.expect_tx.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
  else
    __trap();
}

// One arrival on the barrier at the same place in block `rank` of the cluster (its own included).
__device__ __forceinline__ void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank) {
  if constexpr (kHasSm90)
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(rank)
        : "memory");
  else
    __trap();
}

// Whether the phase of this parity is complete (parity 1 of a new barrier is: the phase before the
// first). When it is, what was written before its arrivals is visible.
__device__ __forceinline__ bool mbarrier_test(uint64_t* barrier, uint32_t parity) {
  uint32_t done = 0;
  if constexpr (kHasSm90)
    asm volatile(
        "{\n"
        ".reg .pred complete;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
        "selp.b32 %0, 1, 0, complete;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  else
    __trap();
  return done != 0;
}

// Waits until the phase of this parity is complete.
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

// The same, and sees what threads of other blocks of the cluster wrote before they arrived.
__device__ __forceinline__ void mbarrier_wait_cluster(uint64_t* barrier, uint32_t parity) {
  if constexpr (kHasSm90)
    asm volatile(
        "{\n"
        ".reg .pred complete;\n"
        "WAIT:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [%0], %1;\n"
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
