#pragma once

// Thin convolutions over experts on Hopper: at most 64 channels on either side, stride 1, results
// as large as the images. Gathering a row of the product per pixel reads every pixel once per tap,
// and with few channels that takes longer than the arithmetic. Here a window of pixels lies in
// shared memory once, and each tap is the same window a few pixels further on.
//
// Images are laid out in a line with the padding between them: H rows of W pixels and `padding`
// zeros, then `padding` such rows of zeros. Row and column never matter again: tap (u, v) of
// position q is position q + u · line + v - lead. A tile is 128 positions and has the `lead`
// positions before and after it; results in the padding are computed and dropped.
//
// The window is stored in planes of 8 channels, 16 bytes for each position: eight positions in a
// row, whichever comes first, are a matrix of ldmatrix without a bank conflict. wgmma takes the
// window from registers, the filters from shared memory. Channels that are no multiple of 8 (the
// three of an image) are copied one by one, those of the other side are not.

#include "kernels/experts/grouped_conv2d/window_group_sm90.cuh"

namespace moat::kernels::sm90 {

// The filters of an expert, by all threads. Forward a plane holds 8 input channels of every output
// channel, along k; in the input gradient 8 input channels (what is written) of every output
// channel (what is summed over), along the columns.
template <int kColumns, FilterUse kUse, bool kWhole>
__device__ void load_window_filters(const WindowProduct& p, int expert, unsigned char* filters) {
  const Window& w = p.window;
  const Conv2dGeometry& g = p.a.geometry;
  constexpr bool kForward = kUse == FilterUse::forward;
  const int lines = kForward ? kColumns : w.planes * 8, planes = kForward ? w.planes : kColumns / 8,
            taps = w.side * w.side;
  const Bf16* from = static_cast<const Bf16*>(p.a.filters) + expert * p.a.filter_stride;
  for (int i = static_cast<int>(threadIdx.x); i < taps * planes * lines; i += w.groups * kGroup) {
    const int rest = i / planes, plane = i % planes, tap = rest % taps, line = rest / taps;
    const int count = line < g.c_out ? values_in_piece(g.c_in, plane * 8) : 0;
    copy_piece(filters + ((tap * planes + plane) * lines + line) * 16,
               count > 0 ? from + (int64_t{line} * taps + tap) * g.c_in + plane * 8 : from, count,
               kWhole);
  }
}

// Images that no expert has become zeros.
template <bool kWhole>
__device__ void write_window_zeros(const WindowProduct& p, int first, int end) {
  const int width = p.a.to_shape.channels, pieces = (width + 7) / 8;
  const uint32_t zeros[4] = {};
  for (int i = thread_of_group(); i < (end - first) * pieces; i += kGroup) {
    const int pixel = window_pixel(p, p.window.radix.digits(first + i / pieces)),
              column = i % pieces * 8;
    if (pixel >= 0)
      write_piece(static_cast<Bf16*>(p.a.to) + int64_t{pixel} * width + column, zeros,
                  values_in_piece(width, column), is_whole<kWhole>(width));
  }
}

// The tiles of all experts in a row, cut into equal parts, one for each block. A block meets an
// expert's filters once; its warpgroups take the tiles in turn, each on its own: while one
// multiplies, others load and write. From memory comes every image once and goes every result, 2
// bytes for each value; shared memory gives 2 KiB of a window and 32 bytes for each column, at 128
// bytes a clock, for a product of 64 positions that takes the tensor cores half a clock for each
// column: with 64 columns both take 32 clocks.
template <int kColumns, FilterUse kUse, bool kWhole>
__global__ void __launch_bounds__(most_window_groups(kColumns) * kGroup)
    conv_window_kernel(const __grid_constant__ WindowProduct p) {
  const Window& w = p.window;
  unsigned char* filters = shared_memory<unsigned char>();
  const int group = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kGroup, 0);
  WindowGroup<kColumns, kUse, kWhole> mine(p, filters + w.filter_bytes + group * w.group_bytes);
  int64_t all = 0;
  for (int e = 0; e <= p.a.experts; ++e) all += WindowSegment(p, e).tiles();
  const auto begin = static_cast<int>(all * blockIdx.x / gridDim.x),
             end = static_cast<int>(all * (blockIdx.x + 1) / gridDim.x);
  for (int e = 0, before = 0; e <= p.a.experts; ++e) {
    const WindowSegment segment(p, e);
    const int from = max(begin - before, 0), to = min(end - before, segment.tiles());
    before += segment.tiles();
    if (from >= to) continue;
    const int last = segment.first + segment.count;
    const auto position = [&](int tile) { return segment.first + tile * Window::kRows; };
    int tile = from + group;
    if (e == p.a.experts) {
      for (; tile < to; tile += w.groups)
        write_window_zeros<kWhole>(p, position(tile), min(position(tile + 1), last));
      continue;
    }
    __syncthreads();  // nothing reads the filters before these any more
    load_window_filters<kColumns, kUse, kWhole>(p, e, filters);
    mine.start_expert(e, position(tile), last);
    mine.fill_table(0);
    ptx::bar_sync(1 + group, kGroup);
    if (tile < to) mine.load(0);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    ptx::fence_proxy_async();
    __syncthreads();
    for (int turn = 0; tile < to; tile += w.groups, turn ^= 1) {
      mine.multiply(filters);
      mine.fill_table(turn ^ 1);
      ptx::bar_sync(1 + group, kGroup);  // this window has been read, the next table is there
      if (tile + w.groups < to) mine.load(turn ^ 1);
      ptx::cp_async_commit();
      mine.find_results(position(tile), turn);
      mine.finish_products();
      mine.write();
      ptx::cp_async_wait<0>();
      ptx::bar_sync(1 + group, kGroup);  // the next window is there
    }
  }
}

}  // namespace moat::kernels::sm90
