#include "kernels/routing/dispatch_rows.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"

// Pure movement, in the widest words that rows and addresses allow: a warp takes a stretch of a row
// and has kInFlight loads of it under way. With slot_of a token is read once and stored k times,
// (1 + k) · tokens · width values in all; by rows it is read again for each of its k rows, which
// costs as much only where x stays in L2. Stores are evict-first: x is what should stay there.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kInFlight = 4;
constexpr int64_t kStretch = kInFlight * kWarp;  // words

// This lane's words of a stretch: all of them together are one pass of the warp.
template <class Word>
struct Words {
  Word values[kInFlight];

  __device__ void load(const Word* row, const Stretch& s) {
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int64_t at = s.first + u * kWarp + lane_index();
      values[u] = at < s.last ? row[at] : Word{};
    }
  }
  __device__ void store(Word* row, const Stretch& s) const {
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int64_t at = s.first + u * kWarp + lane_index();
      if (at < s.last) __stcs(row + at, values[u]);
    }
  }
};

// y[r] = x[row_token[r]]
template <class Word>
__global__ void __launch_bounds__(kWarps* kWarp) gather_kernel(DispatchRows a, int64_t words) {
  const Stretch s = warp_stretch(words, kStretch);
  if (s.row >= a.rows) return;
  const int64_t token = a.row_token[s.row];
  Words<Word> moved{};
  if (token >= 0 && token < a.tokens) moved.load(static_cast<const Word*>(a.x) + token * words, s);
  moved.store(static_cast<Word*>(a.y) + s.row * words, s);
}

// y[slot_of[t, j]] = x[t] by the first warps, then zeros by the others to rows without a token.
template <class Word>
__global__ void __launch_bounds__(kWarps* kWarp) scatter_kernel(DispatchRows a, int64_t words) {
  const Stretch s = warp_stretch(words, kStretch);
  Word* y = static_cast<Word*>(a.y);
  Words<Word> moved{};
  if (s.row >= a.tokens) {
    const int64_t row = s.row - a.tokens;
    if (row < a.rows && a.row_token[row] < 0) moved.store(y + row * words, s);
    return;
  }
  moved.load(static_cast<const Word*>(a.x) + s.row * words, s);
  for (int64_t at = s.row * a.k; at < (s.row + 1) * a.k; ++at) {
    const int64_t slot = a.slot_of[at];
    if (slot >= 0 && slot < a.rows) moved.store(y + slot * words, s);
  }
}

template <class Word>
Status move(Cuda on, const DispatchRows& a, int64_t row_bytes) {
  const int64_t words = row_bytes / static_cast<int64_t>(sizeof(Word));
  const int64_t rows = a.slot_of ? int64_t{a.tokens} + a.rows : a.rows;
  return launch(on, stretch_grid(rows, words, kStretch, kWarps),
                a.slot_of ? scatter_kernel<Word> : gather_kernel<Word>, a, words);
}

}  // namespace

Status dispatch_rows(Cuda on, const DispatchRows& a) {
  if (a.tokens < 0 || a.rows < 0 || a.width < 0 || (a.slot_of && a.k < 0)) return Status::bad_args;
  const int64_t row_bytes = a.width * static_cast<int64_t>(size_of(a.dtype));
  // The largest power of two that rows, x and y are all multiples of.
  const uint64_t multiple = static_cast<uint64_t>(row_bytes) | reinterpret_cast<uintptr_t>(a.x) |
                            reinterpret_cast<uintptr_t>(a.y);
  if (multiple % 16 == 0) return move<uint4>(on, a, row_bytes);
  if (multiple % 8 == 0) return move<uint2>(on, a, row_bytes);
  if (multiple % 4 == 0) return move<uint32_t>(on, a, row_bytes);
  if (multiple % 2 == 0) return move<uint16_t>(on, a, row_bytes);
  return move<uint8_t>(on, a, row_bytes);
}

}  // namespace moat::kernels
