#pragma once

// Clusters of blocks, the registers of a warpgroup, and the choice of one lane. sm_90.

#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// This block's number in its cluster, and the number of its blocks.
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank = 0;
  if constexpr (kHasSm90)
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  else
    __trap();
  return rank;
}
__device__ __forceinline__ uint32_t cluster_size() {
  uint32_t blocks = 0;
  if constexpr (kHasSm90)
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  else
    __trap();
  return blocks;
}

// The barrier of all threads of the cluster, in two halves: what was written before arriving is
// visible after waiting. A block must not exit while others still use its shared memory.
__device__ __forceinline__ void cluster_arrive() {
  if constexpr (kHasSm90)
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  else
    __trap();
}
__device__ __forceinline__ void cluster_wait() {
  if constexpr (kHasSm90)
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  else
    __trap();
}

// The pointer to the same place in the shared memory of block `rank` of the cluster.
template <class T>
__device__ __forceinline__ T* map_shared(T* shared, uint32_t rank) {
  uint64_t mapped = 0;
  if constexpr (kHasSm90)
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(shared), "r"(rank));
  else
    __trap();
  return reinterpret_cast<T*>(mapped);
}

// True in exactly one of the warp's 32 lanes, which all call it: always the same one.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected = 0;
  if constexpr (kHasSm90)
    asm volatile(
        "{\n"
        ".reg .pred elected;\n"
        "elect.sync _|elected, 0xffffffff;\n"
        "selp.b32 %0, 1, 0, elected;\n"
        "}"
        : "=r"(elected));
  else
    __trap();
  return elected != 0;
}

// Gives registers back, or takes them (waiting until there are some): afterwards each thread of the
// warpgroup has Registers, a multiple of 8 in 24 … 256. All its threads call it.
template <int Registers>
__device__ __forceinline__ void setmaxnreg_dec() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  if constexpr (kHasSm90a)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
  else
    __trap();
}
template <int Registers>
__device__ __forceinline__ void setmaxnreg_inc() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  if constexpr (kHasSm90a)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
  else
    __trap();
}

}  // namespace moat::kernels::ptx
