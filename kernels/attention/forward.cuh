#pragma once

// A block takes a tile of queries of one head and meets its keys and values tile by tile: Dao 2023,
// algorithm 1. It reads its queries once, and keys and values from L2 but for the first block of
// the head; 4 tokens · head_width products and sums per query. While one of two tiles is multiplied
// the other is under way.

#include "kernels/attention/products.cuh"
#include "kernels/attention/tiles.cuh"

namespace moat::kernels::attention_tiles {

template <class P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks)
    forward_kernel(Attention a, typename P::Sum scale, Access access) {
  using T = typename P::Value;
  using C = typename P::Sum;
  const SharedTiles<P, 1> shared;
  T *q = shared.own[0], *k = shared.other[0], *v = shared.other[1];
  const Place at(a.tokens, a.heads, P::kRows);
  const auto* qkv = static_cast<const T*>(a.qkv);
  const HeadRows<const T> keys = rows_of_qkv(a, qkv, at, Part::k),
                          values = rows_of_qkv(a, qkv, at, Part::v);
  const int width = padded<P>(a.head_width);
  const auto load_others = [&](T* tile, const HeadRows<const T>& from, int first) {
    if (first < a.tokens) {
      if (first > 0) __syncthreads();  // the tile before has been read
      load_tile<P, P::kOthers>(tile, from, first, access);
    }
    ptx::cp_async_commit();
  };
  load_tile<P, P::kRows>(q, rows_of_qkv(a, qkv, at, Part::q), at.first, access);
  load_others(k, keys, 0);
  load_others(v, values, 0);

  const C to_log2 = static_cast<C>(scale * std::numbers::log2e);  // exp(scale s) = exp2(to_log2 s)
  typename P::Wide y;
  C max[P::kMyRows], sum[P::kMyRows] = {};  // of the scores; of this thread's exponentials
#pragma unroll
  for (C& m : max) m = -INFINITY;
  for (int first = 0; first < a.tokens; first += P::kOthers) {
    typename P::Scores s;
    ptx::cp_async_wait<1>();
    __syncthreads();  // k is there
    P::multiply(s, q, k, width);
    load_others(k, keys, first + P::kOthers);
#pragma unroll
    for (int i = 0; i < P::kMyRows; ++i) {
      C largest = max[i];
#pragma unroll
      for (int j = 0; j < P::kMyOthers; ++j) {
        if (first + P::other(j) >= a.tokens) s.at(i, j) = -INFINITY;
        largest = Largest()(largest, s.at(i, j));
      }
      largest = warp_reduce<P::kLanes>(largest, Largest());
      const C correction = exp2((max[i] - largest) * to_log2);
      max[i] = largest;
      sum[i] *= correction;
#pragma unroll
      for (int c = 0; c < P::kMyColumns; ++c) y.at(i, c) *= correction;
#pragma unroll
      for (int j = 0; j < P::kMyOthers; ++j) {
        // Not s to_log2 - largest to_log2: the compiler would fuse the first product with the
        // difference, and what the second one was rounded by is more than 128 for large scores.
        s.at(i, j) = exp2((s.at(i, j) - largest) * to_log2);
        sum[i] += s.at(i, j);
      }
    }
    ptx::cp_async_wait<1>();
    __syncthreads();  // v is there
    P::accumulate(y, s, v, width, shared.scratch);
    load_others(v, values, first + P::kOthers);
  }
  C share[P::kMyRows];  // of an exponential
#pragma unroll
  for (int i = 0; i < P::kMyRows; ++i) {
    const C total = warp_reduce<P::kLanes>(sum[i], Sum());
    share[i] = 1 / total;
    const int token = at.first + P::row(i);
    if (P::lane() == 0 && token < a.tokens)
      static_cast<C*>(a.log_sum_exp)[at.image_head * a.tokens + token] =
          max[i] * scale + log(total);
  }
  store_tile<P>(
      rows_of_y(a, static_cast<T*>(a.y), at), at.first, y, [&](int i) { return share[i]; }, q,
      access);
}

}  // namespace moat::kernels::attention_tiles
