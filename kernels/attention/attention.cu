#include "kernels/attention/attention.h"

#include <climits>
#include <cmath>

#include "kernels/attention/backward.cuh"
#include "kernels/attention/backward_head.cuh"
#include "kernels/attention/forward.cuh"
#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/library/context.h"

namespace moat::kernels {

namespace attention_tiles {

namespace {

// More heads would not fit HeadRows::leading.
template <class Args>
bool is_valid(const Args& a) {
  return a.batch >= 0 && a.tokens >= 0 && a.heads >= 1 && a.heads <= INT_MAX / 3 / kMostHeadWidth &&
         a.head_width >= 1 && a.head_width <= kMostHeadWidth;
}

// Tokens as tiles of `rows` cover them.
constexpr int64_t covered(int64_t tokens, int rows) { return (tokens + rows - 1) / rows * rows; }

// f.operator()<P>() with the products for a number format, a width and a number of tokens.
template <class Args, class F>
Status with_products(Cuda on, const Args& a, F&& f) {
  const bool tf32 = on.context && on.context->precision() == Precision::tf32;
  const auto with_width = [&]<int kWidth>() {
    switch (a.dtype) {
      case Dtype::f64:
        return f.template operator()<FmaProducts<double, kWidth>>();
      case Dtype::f32:
        return tf32 ? f.template operator()<MmaProducts<float, kWidth>>()
                    : f.template operator()<FmaProducts<float, kWidth>>();
      case Dtype::bf16:
        if constexpr (kWidth <= 64)  // 65 tokens are a tile of 80 rows
          if (covered(a.tokens, 80) <= covered(a.tokens, 64))
            return f.template operator()<MmaProducts<Bf16, kWidth, 80>>();
        return f.template operator()<MmaProducts<Bf16, kWidth>>();
      default:
        return Status::unsupported;
    }
  };
  return a.head_width <= 64 ? with_width.template operator()<64>()
                            : with_width.template operator()<kMostHeadWidth>();
}

// Whether all rows of a head can be moved in chunks of 16 bytes.
template <class Args>
Access access_of(const Args& a, std::initializer_list<const void*> pointers) {
  bool chunks = a.head_width * size_of(a.dtype) % 16 == 0;
  for (const void* p : pointers) chunks &= reinterpret_cast<uintptr_t>(p) % 16 == 0;
  return chunks ? Access::chunks : Access::values;
}

// A block per tile of rows of each head.
template <class P, class Tiles, class Args>
Grid grid_of(const Args& a) {
  const int64_t tiles = (a.tokens + P::kRows - 1) / P::kRows;
  return {blocks_of(int64_t{a.batch} * a.heads * tiles, 1), dim3(P::kThreads), Tiles::bytes()};
}

// Whether a block has the gradients of a whole head.
template <class P>
constexpr bool takes_head(const AttentionGrad& a) {
  return P::kTakesHeads && a.tokens <= P::kRows;
}

// Of the scores.
template <class P, class Args>
typename P::Sum scale_of(const Args& a) {
  return static_cast<typename P::Sum>(1 / std::sqrt(static_cast<double>(a.head_width)));
}

}  // namespace

}  // namespace attention_tiles

size_t attention_workspace(Cuda, const Attention&) { return 0; }

Status attention(Cuda on, const Attention& a) {
  using namespace attention_tiles;
  if (!is_valid(a)) return Status::bad_args;
  return with_products(on, a, [&]<class P>() {
    return launch(on, grid_of<P, SharedTiles<P, 1>>(a), forward_kernel<P>, a, scale_of<P>(a),
                  access_of(a, {a.qkv, a.y}));
  });
}

size_t attention_grad_workspace(Cuda on, const AttentionGrad& a) {
  using namespace attention_tiles;
  if (!is_valid(a)) return 0;
  size_t bytes = 0;
  with_products(on, a, [&]<class P>() {
    if (!takes_head<P>(a))
      bytes = static_cast<size_t>(int64_t{a.batch} * a.heads * a.tokens) * sizeof(typename P::Sum);
    return Status::ok;
  });
  return bytes;
}

Status attention_grad(Cuda on, const AttentionGrad& a) {
  using namespace attention_tiles;
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < attention_grad_workspace(on, a)) return Status::small_workspace;
  return with_products(on, a, [&]<class P>() {
    const Access access = access_of(a, {a.qkv, a.d_y, a.d_qkv});
    if constexpr (P::kTakesHeads)
      if (takes_head<P>(a))
        return launch(on, grid_of<P, HeadTiles<P>>(a), head_gradient_kernel<P>, a, scale_of<P>(a),
                      access);
    auto* products = static_cast<typename P::Sum*>(on.workspace);
    // In vectors or not as the width has it, never the addresses: sums keep their order.
    Status status = with_vector<typename P::Value>(a.head_width, {}, [&]<int N>() {
      return launch(on,
                    {blocks_of(int64_t{a.batch} * a.tokens * a.heads, kRowProductRows),
                     dim3(kRowProductThreads)},
                    row_products_kernel<typename P::Value, N>, a, products);
    });
    if (status == Status::ok)
      status = launch(on, grid_of<P, SharedTiles<P, 2>>(a), query_gradient_kernel<P>, a, products,
                      scale_of<P>(a), access);
    if (status == Status::ok)
      status = launch(on, grid_of<P, SharedTiles<P, 2>>(a), key_gradient_kernel<P>, a, products,
                      scale_of<P>(a), access);
    return status;
  });
}

}  // namespace moat::kernels
