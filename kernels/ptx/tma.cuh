#pragma once

// The tensor memory accelerator: copies of boxes of a tensor (kernels/cuda/tensor_map.h) between
// global and shared memory, started by one thread. sm_90.
//
// Coordinates are elements, innermost first, and the innermost is a multiple of 16 bytes (to a GPU
// any other is an illegal instruction). Outside the tensor, loads give zeros and stores write
// nothing. A load reports its bytes (those of the whole box) to `barrier` of this block. Shared
// addresses are aligned to 128 bytes, for a swizzled box to the pattern's repeat (1024).

#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx/arch.cuh"

namespace moat::kernels::ptx {

// Orders this thread's ordinary accesses to shared memory before later asynchronous ones (TMA,
// wgmma), its own and those of threads that it then synchronises with.
__device__ __forceinline__ void fence_proxy_async() {
  if constexpr (kHasSm90)
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  else
    __trap();
}

// The box at (x, y), (x, y, z) or (x, y, z, w) into shared memory.
__device__ __forceinline__ void tma_load_2d(void* shared, const TensorMap* map, uint64_t* barrier,
                                            int x, int y) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
        : "memory");
  else
    __trap();
}
__device__ __forceinline__ void tma_load_3d(void* shared, const TensorMap* map, uint64_t* barrier,
                                            int x, int y, int z) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
  else
    __trap();
}
__device__ __forceinline__ void tma_load_4d(void* shared, const TensorMap* map, uint64_t* barrier,
                                            int x, int y, int z, int w) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
  else
    __trap();
}

// Pixels of a WalkedImages: from pixel (x, y) of image n on, which is one of the walk's, all of
// them moved `right` and `down`, their channels from `channel` on. What lies outside an image, and
// images behind the last, are zeros.
__device__ __forceinline__ void tma_load_pixels(void* shared, const TensorMap* map,
                                                uint64_t* barrier, int channel, int x, int y, int n,
                                                uint16_t right, uint16_t down) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(channel), "r"(x), "r"(y), "r"(n), "h"(right),
        "h"(down)
        : "memory");
  else
    __trap();
}

// The box at (x, y) from shared memory. Ordinary writes to it need fence_proxy_async first.
__device__ __forceinline__ void tma_store_2d(const TensorMap* map, const void* shared, int x,
                                             int y) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
            map),
        "r"(shared_address(shared)), "r"(x), "r"(y)
        : "memory");
  else
    __trap();
}

// Closes the group of this thread's stores since the last commit.
__device__ __forceinline__ void bulk_commit() {
  if constexpr (kHasSm90)
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
  else
    __trap();
}
// Waits until all but at most Pending of this thread's newest groups have read their shared memory:
// it may be written again, their global bytes perhaps still on the way.
template <int Pending>
__device__ __forceinline__ void bulk_wait_read() {
  if constexpr (kHasSm90)
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
  else
    __trap();
}

}  // namespace moat::kernels::ptx
