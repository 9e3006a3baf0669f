#include <algorithm>
#include <iterator>

#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/cluster.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr unsigned kThreads = 32;
// The boxes looked at: the first inside, the others over the edges.
constexpr int kPlaces = 3;
struct Places {
  int at[kPlaces][3] = {{8, 1, 1}, {-8, -2, -1}, {64, 7, 2}};
};

// A tensor [planes, rows, columns] of 16-bit elements over `data`, boxes of `columns` columns.
Status map_of(TensorMap* map, const uint32_t* data, int rank, int columns, Swizzle swizzle) {
  return make_tensor_map(map, TiledTensor{.base = data,
                                          .dtype = Dtype::bf16,
                                          .rank = rank,
                                          .extents = {kTensor[0], kTensor[1], kTensor[2]},
                                          .strides = {2, kPitch * 2, kPitch * 2 * kTensor[1]},
                                          .box = {columns, kRows, 2},
                                          .swizzle = swizzle});
}

enum class Load { plain, hint, plane, plane_hint, four_axes };

// The shared memory that each of `count` copies arrives in, `words` each, to out: start(i, …)
// starts one.
template <class Start>
__device__ void load_each(int count, int words, uint32_t* out, Start&& start) {
  uint32_t* shared = shared_memory<uint32_t>();
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  for (int i = 0; i < count; ++i) {
    if (threadIdx.x == 0) {
      ptx::mbarrier_arrive_expect_tx(&barrier, static_cast<uint32_t>(words) * 4);
      start(i, shared, &barrier);
    }
    ptx::mbarrier_wait(&barrier, static_cast<uint32_t>(i) % 2);
    for (int word = static_cast<int>(threadIdx.x); word < words; word += kThreads)
      out[i * words + word] = shared[word];
    __syncthreads();
  }
}

template <Load Kind>
__global__ void load_kernel(const __grid_constant__ TensorMap map, Places places, int words,
                            uint32_t* out) {
  load_each(kPlaces, words, out, [&](int i, uint32_t* shared, uint64_t* barrier) {
    const int x = places.at[i][0], y = places.at[i][1], z = places.at[i][2];
    if constexpr (Kind == Load::plain)
      ptx::tma_load_2d(shared, &map, barrier, x, y);
    else if constexpr (Kind == Load::hint)
      ptx::tma_load_2d_hint(shared, &map, barrier, x, y, ptx::l2_evict_first());
    else if constexpr (Kind == Load::plane)
      ptx::tma_load_3d(shared, &map, barrier, x, y, z);
    else if constexpr (Kind == Load::plane_hint)
      ptx::tma_load_3d_hint(shared, &map, barrier, x, y, z, ptx::l2_evict_last());
    else
      ptx::tma_load_4d(shared, &map, barrier, x, 0, y, z);
  });
}

template <Load Kind>
Status run_load(Cuda on, const uint32_t* in, uint32_t* out, int columns, Swizzle swizzle) {
  const int rank = Kind == Load::plane || Kind == Load::plane_hint ? 3 : 2;
  TensorMap map;
  if (const Status s = map_of(&map, in, rank, columns, swizzle); s != Status::ok) return s;
  const int words = columns * kRows * (rank - 1) / 2;
  return launch(on, {dim3(1), dim3(kThreads), 8192}, load_kernel<Kind>, map, Places(), words, out);
}

struct Copies {
  PixelCopy at[std::size(kPixelCopies)];
};
__global__ void load_pixels_kernel(const __grid_constant__ TensorMap map, Copies copies, int words,
                                   uint32_t* out) {
  load_each(static_cast<int>(std::size(copies.at)), words, out,
            [&](int i, uint32_t* shared, uint64_t* barrier) {
              const PixelCopy& c = copies.at[i];
              ptx::tma_load_pixels(shared, &map, barrier, c.channel, c.x, c.y, c.n,
                                   static_cast<uint16_t>(c.right), static_cast<uint16_t>(c.down));
            });
}

// Each block of two brings one box to both: out [blocks, boxes, words].
template <int Rank>
__global__ void multicast_kernel(const __grid_constant__ TensorMap map, Places places, int words,
                                 uint32_t* out) {
  uint32_t* shared = shared_memory<uint32_t>();
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + 2 * words);
  const int rank = static_cast<int>(ptx::cluster_rank());
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(barrier, 2 * static_cast<uint32_t>(words) * 4);
  }
  ptx::cluster_arrive();  // both barriers are ready
  ptx::cluster_wait();
  const int x = places.at[rank][0], y = places.at[rank][1], z = places.at[rank][2];
  if (threadIdx.x == 0) {
    if constexpr (Rank == 2)
      ptx::tma_load_2d_multicast(shared + rank * words, &map, barrier, x, y, 3);
    else
      ptx::tma_load_3d_multicast(shared + rank * words, &map, barrier, x, y, z, 3);
  }
  ptx::mbarrier_wait(barrier, 0);
  for (int word = static_cast<int>(threadIdx.x); word < 2 * words; word += kThreads)
    out[rank * 2 * words + word] = shared[word];
  ptx::cluster_arrive();  // the other's copy into this block is done: its barrier said so here
  ptx::cluster_wait();
}

template <int Rank>
Status run_multicast(Cuda on, const uint32_t* in, uint32_t* out) {
  TensorMap map;
  if (const Status s = map_of(&map, in, Rank, 64, Swizzle::b128); s != Status::ok) return s;
  return launch_cluster(on, 2, kThreads, 8192 + 8, multicast_kernel<Rank>, map, Places(),
                        32 * kRows * (Rank - 1), out);
}

// Boxes full of their own numbers, box i in both halves of shared memory in turn, over a tensor
// that out holds.
template <int Rank>
__global__ void store_kernel(const __grid_constant__ TensorMap map, Places places, int words,
                             const uint32_t* in) {
  uint32_t* shared = shared_memory<uint32_t>();
  for (int i = 0; i < kPlaces; ++i) {
    uint32_t* half = shared + i % 2 * words;
    for (int word = static_cast<int>(threadIdx.x); word < words; word += kThreads)
      half[word] = in[i * words + word];
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
      if constexpr (Rank == 2)
        ptx::tma_store_2d(&map, half, places.at[i][0], places.at[i][1]);
      else
        ptx::tma_store_3d(&map, half, places.at[i][0], places.at[i][1], places.at[i][2]);
      ptx::bulk_commit();
      ptx::bulk_wait_read<1>();  // the other half may be written again
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) ptx::bulk_wait<0>();
}

template <int Rank>
Status run_store(Cuda on, const uint32_t* in, uint32_t* out) {
  // The boxes must not overlap where they are inside: stores have no order. A store to a place
  // before the tensor has stopped an H200 (illegal instruction), unlike a load; no kernel does it.
  const Places places{{{8, 1, 0}, {48, 1, 2}, {8, 9, 1}}};
  TensorMap map;
  if (const Status s = map_of(&map, out, Rank, 32, Swizzle::b64); s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), 8192}, store_kernel<Rank>, map, places,
                16 * kRows * (Rank - 1), in);
}

// The kernel writes the tensor itself (out), then loads a box of it to the words after it.
__global__ void own_writes_kernel(const __grid_constant__ TensorMap map, const uint32_t* in,
                                  uint32_t* out, int tensor_words, int words) {
  uint32_t* shared = shared_memory<uint32_t>();
  __shared__ uint64_t barrier;
  for (int word = static_cast<int>(threadIdx.x); word < tensor_words; word += kThreads)
    out[word] = in[word];
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::fence_proxy_async_all();
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&barrier, static_cast<uint32_t>(words) * 4);
    ptx::tma_load_2d(shared, &map, &barrier, 8, 1);
  }
  ptx::mbarrier_wait(&barrier, 0);
  for (int word = static_cast<int>(threadIdx.x); word < words; word += kThreads)
    out[tensor_words + word] = shared[word];
}

__global__ void bulk_load_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = shared_memory<uint32_t>();
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(&barrier, 336);
    ptx::bulk_load(shared + 4, in + 8, 336, &barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(&barrier, 0);
  for (int word = static_cast<int>(threadIdx.x); word < 84; word += kThreads)
    out[word] = shared[4 + word];
}

}  // namespace

Status run_bulk_load(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kThreads), 1024}, bulk_load_kernel, in, out);
}
Status run_tma_load_plain(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 24, Swizzle::none);
}
Status run_tma_load_b32(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 16, Swizzle::b32);
}
Status run_tma_load_b64(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 32, Swizzle::b64);
}
Status run_tma_load_b128(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 64, Swizzle::b128);
}
Status run_tma_load_hint(Cuda on, const uint32_t* in, uint32_t* out) {
  const Status first = run_load<Load::hint>(on, in, out, 64, Swizzle::b128);
  return first != Status::ok
             ? first
             : run_load<Load::plane_hint>(on, in, out + kPlaces * 32 * kRows, 64, Swizzle::b128);
}
Status run_tma_load_3d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plane>(on, in, out, 64, Swizzle::b128);
}
// Of a tensor [planes, rows, 1, columns], boxes of 2 planes of 8 rows of 64.
Status run_tma_load_4d(Cuda on, const uint32_t* in, uint32_t* out) {
  TensorMap map;
  const Status s = make_tensor_map(
      &map, TiledTensor{.base = in,
                        .dtype = Dtype::bf16,
                        .rank = 4,
                        .extents = {kTensor[0], 1, kTensor[1], kTensor[2]},
                        .strides = {2, kPitch * 2, kPitch * 2, kPitch * 2 * kTensor[1]},
                        .box = {64, 1, kRows, 2},
                        .swizzle = Swizzle::b128});
  if (s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), 8192}, load_kernel<Load::four_axes>, map, Places(),
                64 * kRows, out);
}
Status run_tma_load_pixels(Cuda on, const uint32_t* in, uint32_t* out) {
  TensorMap map;
  const Status s = make_tensor_map(&map, WalkedImages{.base = in,
                                                      .n = kImages[3],
                                                      .height = kImages[2],
                                                      .width = kImages[1],
                                                      .channels = kImages[0],
                                                      .first_x = kWalk[0],
                                                      .first_y = kWalk[1],
                                                      .columns = kWalkLength,
                                                      .rows = kWalkLength,
                                                      .stride = kWalkStride,
                                                      .box_channels = 64,
                                                      .box_pixels = kCopied,
                                                      .swizzle = Swizzle::b128});
  if (s != Status::ok) return s;
  Copies copies;
  std::copy(std::begin(kPixelCopies), std::end(kPixelCopies), copies.at);
  return launch(on, {dim3(1), dim3(kThreads), 8192}, load_pixels_kernel, map, copies, 32 * kCopied,
                out);
}
Status run_tma_load_multicast(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_multicast<2>(on, in, out);
}
Status run_tma_load_multicast_3d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_multicast<3>(on, in, out);
}
Status run_tma_store_2d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_store<2>(on, in, out);
}
Status run_tma_store_3d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_store<3>(on, in, out);
}
Status run_tma_of_own_writes(Cuda on, const uint32_t* in, uint32_t* out) {
  TensorMap map;
  if (const Status s = map_of(&map, out, 2, 64, Swizzle::b128); s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), 8192}, own_writes_kernel, map, in, out,
                kPitch * kTensor[1] / 2, 32 * kRows);
}

}  // namespace moat::tests
