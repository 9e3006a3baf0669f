#pragma once

// The gradients of a head whose tokens are one tile, of bfloat16: a block has all of it in shared
// memory and computes the probabilities once, 10 tokens · head_width products and sums per query
// for backward.cuh's 14. D_i needs no pass of its own: it is the mean of <d_y_i, v_j> by p_ij, by
// these as they are, for what a log-sum-exp was rounded by is in all of its row, and of large
// scores would remain in d_s. A warp takes 16 queries, for d_q, then, from what all have left in
// shared memory, 16 keys.

#include "kernels/attention/backward.cuh"

namespace moat::kernels::attention_tiles {

// Tiles of q, k, v and d_y, and scores of all queries with all keys, twice.
template <class P>
struct HeadTiles {
  static constexpr int kTile = P::kRows * P::kPitch, kScores = P::kRows * P::kScorePitch;
  typename P::Value *q, *k, *v, *d_y, *p, *d_s;

  __device__ HeadTiles()
      : q(shared_memory<typename P::Value>()),
        k(q + kTile),
        v(k + kTile),
        d_y(v + kTile),
        p(d_y + kTile),
        d_s(p + kScores) {}
  static constexpr size_t bytes() { return (4 * kTile + 2 * kScores) * sizeof(typename P::Value); }
};

// Of a multiprocessor; asked for more, ptxas spills. On sm_80 shared memory is enough for two.
inline constexpr int kHeadBlocks = 3;

template <class P>
__global__ void __launch_bounds__(P::kThreads, kHeadBlocks)
    head_gradient_kernel(AttentionGrad a, float scale, Access access) {
  using T = typename P::Value;
  const HeadTiles<P> shared;
  const Place at(a.tokens, a.heads, P::kRows);
  const auto* qkv = static_cast<const T*>(a.qkv);
  const int width = padded<P>(a.head_width);
  load_tile<P, P::kRows>(shared.v, rows_of_qkv(a, qkv, at, Part::v), 0, access);
  load_tile<P, P::kRows>(shared.d_y, rows_of_y(a, static_cast<const T*>(a.d_y), at), 0, access);
  load_tile<P, P::kRows>(shared.q, rows_of_qkv(a, qkv, at, Part::q), 0, access);
  load_tile<P, P::kRows>(shared.k, rows_of_qkv(a, qkv, at, Part::k), 0, access);
  ptx::cp_async_commit();
  const auto* log_sum_exp = static_cast<const float*>(a.log_sum_exp) + at.image_head * a.tokens;
  float log2_sum[P::kMyRows];
#pragma unroll
  for (int i = 0; i < P::kMyRows; ++i)
    log2_sum[i] =
        P::row(i) < a.tokens ? log_sum_exp[P::row(i)] * std::numbers::log2e_v<float> : 0.0f;
  ptx::cp_async_wait<0>();
  __syncthreads();

  const float to_log2 = scale * std::numbers::log2e_v<float>;
  typename P::Wide d_q;
  {
    typename P::Scores p, d_s;
    P::multiply(d_s, shared.d_y, shared.v, width);
    P::multiply(p, shared.q, shared.k, width);
#pragma unroll
    for (int i = 0; i < P::kMyRows; ++i) {
      float total = 0, product = 0;  // of p, and D
#pragma unroll
      for (int j = 0; j < P::kMyOthers; ++j) {
        p.at(i, j) = P::other(j) < a.tokens ? exp2(p.at(i, j) * to_log2 - log2_sum[i]) : 0.0f;
        total += p.at(i, j);
        product += p.at(i, j) * d_s.at(i, j);
      }
      product = warp_reduce<P::kLanes>(product, Sum()) *
                ptx::approximate_reciprocal(warp_reduce<P::kLanes>(total, Sum()));
#pragma unroll
      for (int j = 0; j < P::kMyOthers; ++j) d_s.at(i, j) = p.at(i, j) * (d_s.at(i, j) - product);
    }
    P::leave(p, shared.p);
    P::leave(d_s, shared.d_s);
    P::accumulate(d_q, d_s, shared.k, width, nullptr);
  }
  __syncthreads();  // all scores are there, and k and v have been read

  // Gradients pass through tiles that have been read.
  auto* d_qkv = static_cast<T*>(a.d_qkv);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::q), 0, d_q, [&](int) { return scale; }, shared.v, access);
  {
    typename P::Wide d_v;
    P::accumulate_transposed(d_v, shared.p, shared.d_y, width);
    store_tile<P>(
        rows_of_qkv(a, d_qkv, at, Part::v), 0, d_v, [](int) { return 1.0f; }, shared.k, access);
  }
  typename P::Wide d_k;
  P::accumulate_transposed(d_k, shared.d_s, shared.q, width);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::k), 0, d_k, [&](int) { return scale; }, shared.v, access);
}

}  // namespace moat::kernels::attention_tiles
