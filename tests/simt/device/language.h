#pragma once

// The keywords, built-in variables, barriers and fences of CUDA C++.

#include <cstddef>
#include <cstdint>

#include "tests/simt/device/vectors.h"
#include "tests/simt/device/where.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))
// One operating-system thread runs all threads of a block, so that they share it.
#define __shared__ thread_local

namespace simt {

// Constant in the life of a device thread, hence `const`: the compiler may keep them.
[[gnu::const]] uint3 thread_index();
[[gnu::const]] uint3 block_index();
[[gnu::const]] dim3 block_extent();
[[gnu::const]] dim3 grid_extent();

// The block's dynamic shared memory, aligned to 1024 bytes.
[[gnu::const]] void* shared_memory();

enum class Scope { block, device, system };
enum class Vote { count, all, any };

// Barrier `id` (0…15) of the block over `threads` threads, or over all of them.
inline constexpr int kWholeBlock = -1;
void block_sync(int id, int threads, Where where);
int block_vote(Vote vote, int predicate, Where where);

void thread_fence(Scope scope);
void yield();  // lets other threads run; every spin loop needs one
long long clock_ticks();
[[noreturn]] void trap(Where where);

}  // namespace simt

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
// cudaLaunchConfig_t has members of these names: they are its functions of these names.
#define blockDim simt_block_extent()
#define gridDim simt_grid_extent()
#define warpSize 32

[[gnu::const]] inline dim3 simt_block_extent() { return simt::block_extent(); }
[[gnu::const]] inline dim3 simt_grid_extent() { return simt::grid_extent(); }

inline void __syncthreads(simt::Where where = simt::Where::here()) {
  simt::block_sync(0, simt::kWholeBlock, where);
}
inline int __syncthreads_count(int predicate, simt::Where where = simt::Where::here()) {
  return simt::block_vote(simt::Vote::count, predicate, where);
}
inline int __syncthreads_and(int predicate, simt::Where where = simt::Where::here()) {
  return simt::block_vote(simt::Vote::all, predicate, where);
}
inline int __syncthreads_or(int predicate, simt::Where where = simt::Where::here()) {
  return simt::block_vote(simt::Vote::any, predicate, where);
}
inline void __threadfence_block() { simt::thread_fence(simt::Scope::block); }
inline void __threadfence() { simt::thread_fence(simt::Scope::device); }
inline void __threadfence_system() { simt::thread_fence(simt::Scope::system); }
inline void __nanosleep(unsigned) { simt::yield(); }
[[noreturn]] inline void __trap(simt::Where where = simt::Where::here()) { simt::trap(where); }
inline long long clock64() { return simt::clock_ticks(); }
