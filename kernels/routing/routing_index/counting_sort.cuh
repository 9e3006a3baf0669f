#pragma once

#include <algorithm>

#include "kernels/cuda.cuh"
#include "kernels/cuda/warp.cuh"

// A stable counting sort of a sequence of items into bins, in three launches. A warp owns a
// contiguous piece of the sequence and a row of counts, so that nothing depends on who comes first:
//   count   counts[w, bin] = items of bin in piece w; left out where the caller knows them
//   sum     rows[w, bin] = the same of all pieces before w; totals[bin]
//   place   walks the pieces again, 32 items at a time: an item's position is the start of its bin
//           + the bin's items in earlier pieces + those before it in its own
//
// What is sorted is described by a struct with
//   int bin(int64_t item)                      kNoBin: the item is left out
//   void put(int64_t item, int32_t position)   called once per item; kNowhere when it is left out
//   void start_bin(int bin, int32_t position)  called once per bin, and with the end for bin `bins`
//   void put_nothing(int64_t position)         called once per position that no item has
//   kFromStartOfBin                            true: positions count from 0 in every bin
namespace moat::kernels::counting_sort {

inline constexpr int kNoBin = -1;
inline constexpr int32_t kNowhere = -1;
inline constexpr int kMostBins = 11 * 1024;  // one row of counts in 48 KiB, less what is static
inline constexpr int kMostWarps = 8;         // per block
inline constexpr int kMostPieces = 1024;
inline constexpr int kFewestItems = 512;  // in a piece, while there are not kMostPieces
inline constexpr int kUnroll = 4;         // bins that a lane looks up at once

// A sequence cut into pieces, and their counts.
struct Split {
  const int32_t* counts;  // [count, bins]; may be rows
  int32_t* rows;          // [count, bins]
  int32_t* totals;        // [bins]
  int64_t items, items_each;
  int count, bins;

  __device__ int64_t first(int piece) const { return piece * items_each; }
  __device__ int64_t last(int piece) const {
    return first(piece) + items_each < items ? first(piece) + items_each : items;
  }
};

// Calls body(item, bin, is an item) with 32 neighbouring items at a time, all lanes together.
template <class Order, class Body>
__device__ void walk(const Order& order, const Split& p, int piece, Body&& body) {
  const int64_t last = p.last(piece);
  for (int64_t first = p.first(piece); first < last; first += kUnroll * kWarp) {
    const int64_t mine = first + lane_index();
    int bins[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
      bins[u] = mine + u * kWarp < last ? order.bin(mine + u * kWarp) : kNoBin;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) body(mine + u * kWarp, bins[u], mine + u * kWarp < last);
  }
}

template <class Order>
__global__ void __launch_bounds__(kMostWarps* kWarp) count_kernel(Order order, Split p) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int piece = static_cast<int>(blockIdx.x * (blockDim.x / kWarp)) + warp;
  if (piece >= p.count) return;
  int32_t* counts = shared_memory<int32_t>() + warp * p.bins;
  for (int bin = lane_index(); bin < p.bins; bin += kWarp) counts[bin] = 0;
  __syncwarp();
  walk(order, p, piece, [&](int64_t, int bin, bool) {
    if (bin != kNoBin) atomicAdd(&counts[bin], 1);
  });
  __syncwarp();
  int32_t* row = p.rows + int64_t{piece} * p.bins;
  for (int bin = lane_index(); bin < p.bins; bin += kWarp) row[bin] = counts[bin];
}

// 32 bins by up to 32 runs of neighbouring pieces.
static __global__ void __launch_bounds__(kWarp* kWarp) sum_kernel(Split p) {
  constexpr int kBatch = 8;  // loads in flight
  __shared__ int32_t sums[kWarp][kWarp];
  const int bin = static_cast<int>(blockIdx.x * kWarp + threadIdx.x);
  const int run = static_cast<int>(threadIdx.y), runs = static_cast<int>(blockDim.y);
  const int first = p.count * run / runs, last = p.count * (run + 1) / runs;
  const auto entry = [&](int piece) { return int64_t{piece} * p.bins + bin; };
  int32_t sum = 0;
  if (bin < p.bins) {
#pragma unroll kBatch
    for (int piece = first; piece < last; ++piece) sum += p.counts[entry(piece)];
  }
  sums[run][threadIdx.x] = sum;
  __syncthreads();
  if (bin >= p.bins) return;
  int32_t before = 0;
  for (int r = 0; r < run; ++r) before += sums[r][threadIdx.x];
  for (int piece = first; piece < last; piece += kBatch) {
    int32_t counts[kBatch];
#pragma unroll
    for (int u = 0; u < kBatch; ++u) counts[u] = piece + u < last ? p.counts[entry(piece + u)] : 0;
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      if (piece + u < last) p.rows[entry(piece + u)] = before;
      before += counts[u];
    }
  }
  if (run == runs - 1) p.totals[bin] = before;
}

// Where each warp of the block puts its next item of each bin: cursors [warps, bins] in shared
// memory. Returns how many items are put anywhere.
template <class Order>
__device__ int32_t prepare_cursors(const Order& order, const Split& p, int32_t* cursors) {
  __shared__ int32_t scratch[kMostWarps];
  __shared__ int32_t all;
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const int warps = threads / kWarp, each = (p.bins + threads - 1) / threads;
  const int first = thread * each, last = first + each < p.bins ? first + each : p.bins;
  int32_t sum = 0;
  for (int bin = first; bin < last; ++bin) sum += p.totals[bin];
  int32_t start = block_sum_before(sum, scratch);
  if (thread == threads - 1) {
    all = start + sum;
    if (blockIdx.x == 0) order.start_bin(p.bins, start + sum);
  }
  for (int bin = first; bin < last; ++bin) {
    for (int warp = 0; warp < warps; ++warp) {
      const int piece = static_cast<int>(blockIdx.x) * warps + warp;
      if (piece < p.count)
        cursors[warp * p.bins + bin] =
            (Order::kFromStartOfBin ? 0 : start) + p.rows[int64_t{piece} * p.bins + bin];
    }
    if (blockIdx.x == 0) order.start_bin(bin, start);
    start += p.totals[bin];
  }
  __syncthreads();
  return all;
}

template <class Order>
__global__ void __launch_bounds__(kMostWarps* kWarp) place_kernel(Order order, Split p) {
  int32_t* cursors = shared_memory<int32_t>();
  const int32_t all = prepare_cursors(order, p, cursors);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int piece = static_cast<int>(blockIdx.x * (blockDim.x / kWarp)) + warp;
  if (piece >= p.count) return;
  int32_t* cursor = cursors + warp * p.bins;
  walk(order, p, piece, [&](int64_t item, int bin, bool is_item) {
    const unsigned equals = __match_any_sync(kAllLanes, bin);
    const int before = __popc(equals & ((1u << lane_index()) - 1));
    const int32_t position = bin == kNoBin ? kNowhere : cursor[bin] + before;
    __syncwarp();
    if (bin != kNoBin && before == 0) cursor[bin] += __popc(equals);
    __syncwarp();
    if (is_item) order.put(item, position);
  });
  const int64_t first = p.first(piece) > all ? p.first(piece) : all;
  for (int64_t i = first + lane_index(); i < p.last(piece); i += kWarp) order.put_nothing(i);
}

// A sequence of `items` in `count` pieces of `items_each`.
struct Cut {
  int64_t items, items_each;
  int count;
};
inline Cut cut(int64_t items) {
  const int64_t wanted = (items + kFewestItems - 1) / kFewestItems;
  const int count = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMostPieces));
  const int64_t items_each = (items + count - 1) / count;
  return {items, (items_each + kWarp - 1) / kWarp * kWarp, count};
}

// Values of int32 that sort() needs as scratch memory.
inline size_t scratch_of(const Cut& cut, int bins) {
  return (static_cast<size_t>(cut.count) + 1) * static_cast<size_t>(bins);
}

// `counts` [cut.count, bins]: items of each bin in each piece, or nullptr.
template <class Order>
Status sort(Cuda on, const Order& order, const Cut& cut, int bins, int32_t* scratch,
            const int32_t* counts = nullptr) {
  const Split p{.counts = counts ? counts : scratch,
                .rows = scratch,
                .totals = scratch + int64_t{cut.count} * bins,
                .items = cut.items,
                .items_each = cut.items_each,
                .count = cut.count,
                .bins = bins};
  const int warps = std::clamp(kMostBins / bins, 1, kMostWarps);
  const Grid grid{dim3((cut.count + warps - 1) / warps), dim3(warps * kWarp),
                  sizeof(int32_t) * static_cast<size_t>(warps) * static_cast<size_t>(bins)};
  if (!counts)
    if (const Status status = launch(on, grid, count_kernel<Order>, order, p); status != Status::ok)
      return status;
  const Grid columns{dim3((bins + kWarp - 1) / kWarp), dim3(kWarp, std::min(cut.count, kWarp))};
  if (const Status status = launch(on, columns, sum_kernel, p); status != Status::ok) return status;
  return launch(on, grid, place_kernel<Order>, order, p);
}

}  // namespace moat::kernels::counting_sort
