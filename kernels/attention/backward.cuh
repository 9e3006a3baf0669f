#pragma once

// Dao 2023, algorithm 2, with an owner for every sum: a block per tile of queries for d_q, a block
// per tile of keys for d_k and d_v, so that both compute the probabilities: 14 tokens · head_width
// products and sums per query. Before them a pass over y and d_y for D, which a workspace holds,
// [batch, heads, tokens].

#include "kernels/attention/products.cuh"
#include "kernels/attention/tiles.cuh"

namespace moat::kernels::attention_tiles {

inline constexpr int kRowProductWarps = 8;  // per block

// D_i = <d_y_i, y_i>, a warp per image, token and head.
template <class T>
__global__ void __launch_bounds__(kRowProductWarps* kWarp)
    row_products_kernel(AttentionGrad a, compute_t<T>* products) {
  using C = compute_t<T>;
  const int64_t row = int64_t{blockIdx.x} * kRowProductWarps + threadIdx.x / kWarp;
  const int64_t image_token = row / a.heads, head = row % a.heads;
  if (image_token >= int64_t{a.batch} * a.tokens) return;
  const T *y = static_cast<const T*>(a.y) + row * a.head_width,
          *d_y = static_cast<const T*>(a.d_y) + row * a.head_width;
  C sum = 0;
  for (int i = lane_index(); i < a.head_width; i += kWarp) sum += C(y[i]) * C(d_y[i]);
  sum = warp_reduce(sum, Sum());
  if (lane_index() == 0)
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
    return token < tokens ? log_sum_exp[token] * static_cast<C>(kLog2E) : C(0);
  }
  __device__ C product(int token) const { return token < tokens ? products[token] : C(0); }
};

template <class P>
__global__ void __launch_bounds__(P::kThreads, 2)
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
  const auto load_others = [&](T* tile, const HeadRows<const T>& from, int first) {
    if (first < a.tokens) load_tile<P, P::kOthers>(tile, from, first, access);
    ptx::cp_async_commit();
  };
  load_tile<P, P::kRows>(q, rows_of_qkv(a, qkv, at, Part::q), at.first, access);
  load_tile<P, P::kRows>(d_y, rows_of_y(a, static_cast<const T*>(a.d_y), at), at.first, access);
  load_others(v, values, 0);
  load_others(k, keys, 0);

  const C to_log2 = static_cast<C>(scale * kLog2E);
  const QueryNumbers<C> numbers(a, products, at);
  C log2_sum[P::kMyRows], product[P::kMyRows];
#pragma unroll
  for (int i = 0; i < P::kMyRows; ++i) {
    log2_sum[i] = numbers.log2_sum(at.first + P::row(i));
    product[i] = numbers.product(at.first + P::row(i));
  }
  typename P::Wide d_q;
  for (int first = 0; first < a.tokens; first += P::kOthers) {
    typename P::Scores s, d_p;
    ptx::cp_async_wait<1>();
    __syncthreads();  // v is there
    P::multiply(d_p, d_y, v, width);
    __syncthreads();  // and has been read
    load_others(v, values, first + P::kOthers);
    ptx::cp_async_wait<1>();
    __syncthreads();  // k is there
    P::multiply(s, q, k, width);
#pragma unroll
    for (int i = 0; i < P::kMyRows; ++i)
#pragma unroll
      for (int j = 0; j < P::kMyOthers; ++j) {
        const C p =
            first + P::other(j) < a.tokens ? exp2(s.at(i, j) * to_log2 - log2_sum[i]) : C(0);
        s.at(i, j) = p * (d_p.at(i, j) - product[i]);
      }
    P::accumulate(d_q, s, k, width, shared.scratch);
    __syncthreads();  // k has been read
    load_others(k, keys, first + P::kOthers);
  }
  store_tile<P>(
      rows_of_qkv(a, static_cast<T*>(a.d_qkv), at, Part::q), at.first, d_q,
      [&](int) { return scale; }, q, access);
}

template <class P>
__global__ void __launch_bounds__(P::kThreads, 2)
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
  const auto load_gradients = [&](int first) {
    if (first < a.tokens) load_tile<P, P::kOthers>(d_y, gradients, first, access);
    ptx::cp_async_commit();
  };
  const auto load_queries = [&](int first) {
    if (first < a.tokens) {
      load_tile<P, P::kOthers>(q, queries, first, access);
      if (threadIdx.x < P::kOthers) {
        log2_sum[threadIdx.x] = numbers.log2_sum(first + static_cast<int>(threadIdx.x));
        product[threadIdx.x] = numbers.product(first + static_cast<int>(threadIdx.x));
      }
    }
    ptx::cp_async_commit();
  };
  load_tile<P, P::kRows>(k, rows_of_qkv(a, qkv, at, Part::k), at.first, access);
  load_tile<P, P::kRows>(v, rows_of_qkv(a, qkv, at, Part::v), at.first, access);
  load_gradients(0);
  load_queries(0);

  const C to_log2 = static_cast<C>(scale * kLog2E);
  typename P::Wide d_k, d_v;
  for (int first = 0; first < a.tokens; first += P::kOthers) {
    typename P::Scores p, d_s;  // transposed: a row per key
    ptx::cp_async_wait<1>();
    __syncthreads();  // d_y is there
    P::multiply(d_s, v, d_y, width);
    ptx::cp_async_wait<0>();
    __syncthreads();  // q is there
    P::multiply(p, k, q, width);
#pragma unroll
    for (int j = 0; j < P::kMyOthers; ++j) {
      const C log2_sum_j = log2_sum[P::other(j)], product_j = product[P::other(j)];
#pragma unroll
      for (int i = 0; i < P::kMyRows; ++i) {
        p.at(i, j) = exp2(p.at(i, j) * to_log2 - log2_sum_j);
        d_s.at(i, j) = p.at(i, j) * (d_s.at(i, j) - product_j);
      }
    }
    P::accumulate(d_v, p, d_y, width, shared.scratch);
    __syncthreads();  // d_y has been read
    load_gradients(first + P::kOthers);
    P::accumulate(d_k, d_s, q, width, shared.scratch);
    __syncthreads();  // q and its numbers have been read
    load_queries(first + P::kOthers);
  }
  auto* d_qkv = static_cast<T*>(a.d_qkv);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::k), at.first, d_k, [&](int) { return scale; }, k, access);
  store_tile<P>(
      rows_of_qkv(a, d_qkv, at, Part::v), at.first, d_v, [&](int) { return C(1); }, v, access);
}

}  // namespace moat::kernels::attention_tiles
