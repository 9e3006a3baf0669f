#pragma once

// Dao 2023, algorithm 2, with an owner for every sum: a block per tile of queries for d_q, a block
// per tile of keys for d_k and d_v, so that both compute the probabilities: 14 tokens · head_width
// products and sums per query. A tile's other rows are taken in strips, which leaves registers for
// more blocks per multiprocessor: they work while one waits for its tiles. Before them a pass over
// y and d_y for D, which a workspace holds, [batch, heads, tokens].

#include "kernels/attention/products.cuh"
#include "kernels/attention/tiles.cuh"

namespace moat::kernels::attention_tiles {

// Lanes per row: 64 values of bfloat16, as vectors.
inline constexpr int kRowProductThreads = 256, kRowProductLanes = 8,
                     kRowProductRows = kRowProductThreads / kRowProductLanes;

// D_i = <d_y_i, y_i>, some lanes per image, token and head. N divides the width.
template <class T, int N>
__global__ void __launch_bounds__(kRowProductThreads)
    row_products_kernel(AttentionGrad a, compute_t<T>* products) {
  using C = compute_t<T>;
  const int64_t row = int64_t{blockIdx.x} * kRowProductRows + threadIdx.x / kRowProductLanes;
  const bool exists = row < int64_t{a.batch} * a.tokens * a.heads;
  const int lane = lane_index() % kRowProductLanes;
  const T *y = static_cast<const T*>(a.y) + row * a.head_width,
          *d_y = static_cast<const T*>(a.d_y) + row * a.head_width;
  C sum = 0;
  for (int i = lane * N; exists && i < a.head_width; i += kRowProductLanes * N) {
    const Vector<T, N> left = load_anywhere<N>(y + i), right = load_anywhere<N>(d_y + i);
#pragma unroll
    for (int n = 0; n < N; ++n) sum += C(left.values[n]) * C(right.values[n]);
  }
  sum = warp_reduce<kRowProductLanes>(sum, Sum());
  if (lane > 0 || !exists) return;
  const int64_t image_token = row / a.heads, head = row % a.heads;
  products[(image_token / a.tokens * a.heads + head) * a.tokens + image_token % a.tokens] = sum;
}

// What a query's row of scores needs: log2 of the sum of its exponentials, and D. Zeros behind the
// last query, whose probabilities are then finite, and meet nothing but zeros.
template <class C>
struct QueryNumbers {
  const C *log_sum_exp, *products;
  int tokens;

  __device__ QueryNumbers(const AttentionGrad& a, const C* d, const Place& at)
      : log_sum_exp(static_cast<const C*>(a.log_sum_exp) + at.image_head * a.tokens),
        products(d + at.image_head * a.tokens),
        tokens(a.tokens) {}
  __device__ C log2_sum(int token) const {
    return token < tokens ? log_sum_exp[token] * std::numbers::log2e_v<C> : C(0);
  }
  __device__ C product(int token) const { return token < tokens ? products[token] : C(0); }
};

template <class P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks)
    query_gradient_kernel(AttentionGrad a, const typename P::Sum* products, typename P::Sum scale,
                          Access access) {
  using T = typename P::Value;
  using C = typename P::Sum;
  const SharedTiles<P, 2> shared;
  T *q = shared.own[0], *d_y = shared.own[1], *v = shared.other[0], *k = shared.other[1];
  const Place at(a.tokens, a.heads, P::kRows);
  const auto* qkv = static_cast<const T*>(a.qkv);
  const HeadRows<const T> keys = rows_of_qkv(a, qkv, at, Part::k),
                          values = rows_of_qkv(a, qkv, at, Part::v);
  const int width = padded<P>(a.head_width);
  load_tile<P, P::kRows>(q, rows_of_qkv(a, qkv, at, Part::q), at.first, access);
  load_tile<P, P::kRows>(d_y, rows_of_y(a, static_cast<const T*>(a.d_y), at), at.first, access);

  const C to_log2 = static_cast<C>(scale * std::numbers::log2e);
  const QueryNumbers<C> numbers(a, products, at);
  C log2_sum[P::kMyRows], product[P::kMyRows];
#pragma unroll
  for (int i = 0; i < P::kMyRows; ++i) {
    log2_sum[i] = numbers.log2_sum(at.first + P::row(i));
    product[i] = numbers.product(at.first + P::row(i));
  }
  typename P::Wide d_q;
  for (int first = 0; first < a.tokens; first += P::kOthers) {
    if (first > 0) __syncthreads();  // the tiles before have been read
    load_tile<P, P::kOthers>(v, values, first, access);
    load_tile<P, P::kOthers>(k, keys, first, access);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();
#pragma unroll 1
    for (int strip = 0; strip < P::kOthers && first + strip < a.tokens; strip += P::kStrip) {
      typename P::Strip s, d_p;
      P::multiply(d_p, d_y, v + strip * P::kPitch, width);
      P::multiply(s, q, k + strip * P::kPitch, width);
#pragma unroll
      for (int i = 0; i < P::kMyRows; ++i)
#pragma unroll
        for (int j = 0; j < P::kMyStrip; ++j) {
          const C p = first + strip + P::other(j) < a.tokens
                          ? exp2(s.at(i, j) * to_log2 - log2_sum[i])
                          : C(0);
          s.at(i, j) = p * (d_p.at(i, j) - product[i]);
        }
      P::accumulate(d_q, s, k + strip * P::kPitch, width, shared.scratch);
    }
  }
  __syncwarp();  // this warp has read its rows of q
  store_tile<P>(
      rows_of_qkv(a, static_cast<T*>(a.d_qkv), at, Part::q), at.first, d_q,
      [&](int) { return scale; }, q, access);
}

template <class P>
__global__ void __launch_bounds__(P::kThreads, P::kBlocks)
    key_gradient_kernel(AttentionGrad a, const typename P::Sum* products, typename P::Sum scale,
                        Access access) {
  using T = typename P::Value;
  using C = typename P::Sum;
  const SharedTiles<P, 2> shared;
  T *k = shared.own[0], *v = shared.own[1], *d_y = shared.other[0], *q = shared.other[1];
  C *log2_sum = shared.of_others[0], *product = shared.of_others[1];
  const Place at(a.tokens, a.heads, P::kRows);
  const auto* qkv = static_cast<const T*>(a.qkv);
  const HeadRows<const T> queries = rows_of_qkv(a, qkv, at, Part::q),
                          gradients = rows_of_y(a, static_cast<const T*>(a.d_y), at);
  const QueryNumbers<C> numbers(a, products, at);
  const int width = padded<P>(a.head_width);
  load_tile<P, P::kRows>(k, rows_of_qkv(a, qkv, at, Part::k), at.first, access);
  load_tile<P, P::kRows>(v, rows_of_qkv(a, qkv, at, Part::v), at.first, access);

  const C to_log2 = static_cast<C>(scale * std::numbers::log2e);
  typename P::Wide d_k, d_v;
  for (int first = 0; first < a.tokens; first += P::kOthers) {
    if (first > 0) __syncthreads();  // the tiles before have been read
    load_tile<P, P::kOthers>(d_y, gradients, first, access);
    load_tile<P, P::kOthers>(q, queries, first, access);
    ptx::cp_async_commit();
    if (threadIdx.x < P::kOthers) {
      log2_sum[threadIdx.x] = numbers.log2_sum(first + static_cast<int>(threadIdx.x));
      product[threadIdx.x] = numbers.product(first + static_cast<int>(threadIdx.x));
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
#pragma unroll 1
    for (int strip = 0; strip < P::kOthers && first + strip < a.tokens; strip += P::kStrip) {
      typename P::Strip p, d_s;  // transposed: a row per key
      P::multiply(d_s, v, d_y + strip * P::kPitch, width);
      P::multiply(p, k, q + strip * P::kPitch, width);
#pragma unroll
      for (int j = 0; j < P::kMyStrip; ++j) {
        const C log2_sum_j = log2_sum[strip + P::other(j)],
                product_j = product[strip + P::other(j)];
#pragma unroll
        for (int i = 0; i < P::kMyRows; ++i) {
          p.at(i, j) = exp2(p.at(i, j) * to_log2 - log2_sum_j);
          d_s.at(i, j) = p.at(i, j) * (d_s.at(i, j) - product_j);
        }
      }
      P::accumulate(d_v, p, d_y + strip * P::kPitch, width, shared.scratch);
      P::accumulate(d_k, d_s, q + strip * P::kPitch, width, shared.scratch);
    }
  }
  __syncwarp();  // this warp has read its rows of k and v
  auto* d_qkv = static_cast<T*>(a.d_qkv);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::v), at.first, d_v, [&](int) { return C(1); }, v, access);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::k), at.first, d_k, [&](int) { return scale; }, k, access);
}

}  // namespace moat::kernels::attention_tiles
