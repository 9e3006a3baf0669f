#pragma once

// The tensor memory accelerator: copies of boxes of a tensor (kernels/cuda/tensor_map.h) between
// global and shared memory, started by one thread. sm_90.
//
// Coordinates are elements, innermost first, and the innermost is a multiple of 16 bytes (to a GPU
// any other is an illegal instruction). Outside the tensor, loads give zeros and stores write
// nothing. A load reports its bytes (those of the whole box) to `barrier` of this block. Shared
// addresses are aligned to 128 bytes, for a swizzled box to the pattern's repeat (1024, 512, 256).

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
// The same for global memory too: before a TMA load of what this kernel wrote.
__device__ __forceinline__ void fence_proxy_async_all() {
  if constexpr (kHasSm90)
    asm volatile("fence.proxy.async;" ::: "memory");
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

// With an L2 policy (l2_evict_first, l2_evict_last).
__device__ __forceinline__ void tma_load_2d_hint(void* shared, const TensorMap* map,
                                                 uint64_t* barrier, int x, int y, uint64_t policy) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "l"(policy)
        : "memory");
  else
    __trap();
}
__device__ __forceinline__ void tma_load_3d_hint(void* shared, const TensorMap* map,
                                                 uint64_t* barrier, int x, int y, int z,
                                                 uint64_t policy) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "l"(policy)
        : "memory");
  else
    __trap();
}

// Into the same place of every block of the cluster whose bit is set in `blocks`; each block's
// barrier at the same place gets the bytes.
__device__ __forceinline__ void tma_load_2d_multicast(void* shared, const TensorMap* map,
                                                      uint64_t* barrier, int x, int y,
                                                      uint16_t blocks) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "h"(blocks)
        : "memory");
  else
    __trap();
}
__device__ __forceinline__ void tma_load_3d_multicast(void* shared, const TensorMap* map,
                                                      uint64_t* barrier, int x, int y, int z,
                                                      uint16_t blocks) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(blocks)
        : "memory");
  else
    __trap();
}

// Contiguous bytes (a multiple of 16; both addresses aligned to 16) without a map.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
  else
    __trap();
}

// The box at (x, y) or (x, y, z) from shared memory. Ordinary writes to it need fence_proxy_async
// first.
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
__device__ __forceinline__ void tma_store_3d(const TensorMap* map, const void* shared, int x, int y,
                                             int z) {
  if constexpr (kHasSm90)
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::
            "l"(map),
        "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z)
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
// Waits until at most Pending of this thread's newest groups are under way; `_read`: until the
// shared memory of the others may be written again, their global bytes perhaps still on the way.
template <int Pending>
__device__ __forceinline__ void bulk_wait() {
  if constexpr (kHasSm90)
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
  else
    __trap();
}
template <int Pending>
__device__ __forceinline__ void bulk_wait_read() {
  if constexpr (kHasSm90)
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
  else
    __trap();
}

}  // namespace moat::kernels::ptx
