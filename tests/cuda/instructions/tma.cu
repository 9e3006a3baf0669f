#include <algorithm>
#include <iterator>

#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx.cuh"
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

                                          .rank = rank,
                                          .extents = {kTensor[0], kTensor[1], kTensor[2]},
                                          .strides = {2, kPitch * 2, kPitch * 2 * kTensor[1]},
                                          .box = {columns, kRows, 2},
                                          .swizzle = swizzle});
}

enum class Load { plain, plane, four_axes };

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
    else if constexpr (Kind == Load::plane)
      ptx::tma_load_3d(shared, &map, barrier, x, y, z);
    else
      ptx::tma_load_4d(shared, &map, barrier, x, 0, y, z);
  });
}

template <Load Kind>
Status run_load(Cuda on, const uint32_t* in, uint32_t* out, int columns, Swizzle swizzle) {
  const int rank = Kind == Load::plane ? 3 : 2;
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

// Boxes full of their own numbers, box i in both halves of shared memory in turn, over a tensor
// that out holds.
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
      ptx::tma_store_2d(&map, half, places.at[i][0], places.at[i][1]);
      ptx::bulk_commit();
      ptx::bulk_wait_read<1>();  // the other half may be written again
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) ptx::bulk_wait_read<0>();
}

}  // namespace

Status run_tma_load_plain(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 24, Swizzle::none);
}
Status run_tma_load_2d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plain>(on, in, out, 64, Swizzle::b128);
}
Status run_tma_load_3d(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_load<Load::plane>(on, in, out, 64, Swizzle::b128);
}
// Of a tensor [planes, rows, 1, columns], boxes of 2 planes of 8 rows of 64.
Status run_tma_load_4d(Cuda on, const uint32_t* in, uint32_t* out) {
  TensorMap map;
  const Status s = make_tensor_map(
      &map, TiledTensor{.base = in,

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
Status run_tma_store(Cuda on, const uint32_t* in, uint32_t* out) {
  // The boxes must not overlap where they are inside: stores have no order. A store to a place
  // before the tensor has stopped an H200 (illegal instruction), unlike a load; no kernel does it.
  const Places places{{{0, 1, 0}, {64, 1, 0}, {0, 9, 0}}};
  TensorMap map;
  if (const Status s = map_of(&map, out, 2, 64, Swizzle::b128); s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), 8192}, store_kernel, map, places, 32 * kRows, in);
}

}  // namespace moat::tests
