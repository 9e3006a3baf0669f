#include "kernels/gate/topk_gate.h"

#include <limits>

#include "kernels/cuda.cuh"
#include "kernels/gate/topk_gate/block.cuh"
#include "kernels/gate/topk_gate/counts.cuh"
#include "kernels/gate/topk_gate/grad.cuh"
#include "kernels/gate/topk_gate/lanes.cuh"

// Compiled without contraction of products and sums (--fmad=false, -ffp-contract=off), so that
// noise and scores are the CPU's bits. An explicit fma stays one.

namespace moat::kernels {

namespace {

// noisy = logit + noise, a thread per pair of experts. Arithmetic in float64, about a thousand
// instructions a pair, decides here, not the bytes.
template <class T>
__global__ void __launch_bounds__(kGateThreads) gate_noise_kernel(TopkGate a) {
  using C = compute_t<T>;
  const int pairs = (a.num_experts + 1) / 2;
  const int64_t item = int64_t{blockIdx.x} * kGateThreads + threadIdx.x;
  const int64_t token = item / pairs;
  const int pair = static_cast<int>(item % pairs);
  if (token >= a.tokens) return;
  const bool has_noise = a.noise.deviation != 0;
  std::array<C, 2> noise{};
  if (has_noise) noise = noise_of_pair<C>(a.noise, token, pair);
  for (int i = 0; i < 2 && 2 * pair + i < a.num_experts; ++i) {
    const int64_t at = token * a.num_experts + 2 * pair + i;
    const C x = without_nan(C(static_cast<const T*>(a.logits)[at]));
    static_cast<C*>(a.noisy_logits)[at] = has_noise ? x + noise[i] : x;
  }
}

// What the register kernel takes: groups are one, or a power of two of whole slices of V experts.
template <int V>
bool fits_slices(const TopkGate& a) {
  if (a.groups.kept == a.groups.count) return true;
  const int size = a.num_experts / a.groups.count, slices = size / V;
  return size % V == 0 && (slices & (slices - 1)) == 0;
}

// Counts what a gate has chosen that could not do so itself.
Status count_afterwards(Cuda on, const TopkGate& a) {
  const TokenPieces pieces = token_pieces(a.tokens);
  return launch(on,
                {dim3(static_cast<unsigned>(pieces.count)), dim3(kGateThreads), counts_bytes(a)},
                gate_counts_kernel, a, pieces.each);
}

template <class T>
Status gate_in_block(Cuda on, const TopkGate& a) {
  using C = compute_t<T>;
  const int sorted = sorted_size(a.num_experts);
  const Status status =
      launch(on, {dim3(static_cast<unsigned>(a.tokens)), dim3(kGateThreads), gate_row_bytes<C>(a)},
             gate_block_kernel<T>, a, sorted);
  return status == Status::ok && a.counts ? count_afterwards(on, a) : status;
}

// Blocks that own a whole piece of the tokens count their choices: of up to 128 experts as long as
// there are at most 65536 tokens, of up to 256 experts 16384 tokens. Otherwise a launch more
// counts.
template <class T, int L, int V>
Status gate_in_lanes(Cuda on, const TopkGate& a) {
  if (!fits_slices<V>(a)) return gate_in_block<T>(on, a);
  const TokenPieces pieces = token_pieces(a.tokens);
  const bool in_pieces = a.counts && a.tokens > 0 && pieces.each * L <= kMostLaneThreads<L>;
  Grid grid = lanes_grid<L>(a.tokens);
  if (in_pieces)
    grid = {dim3(static_cast<unsigned>(pieces.count)), dim3(static_cast<unsigned>(pieces.each * L)),
            counts_bytes(a)};
  TopkGate gate = a;
  if (!in_pieces) gate.counts = nullptr;
  const Status status = with_vector<T>(a.num_experts, {a.logits}, [&]<int N>() {
    return launch(on, grid, gate_lanes_kernel < T, L, V, V % N == 0 ? N : 1 >, gate);
  });
  return status == Status::ok && a.counts && !in_pieces ? count_afterwards(on, a) : status;
}

// The register kernel by the number of experts; float64 and more than 1024 take a block each.
template <class T>
Status gate(Cuda on, const TopkGate& a) {
  if constexpr (sizeof(T) == 8)
    return gate_in_block<T>(on, a);
  else if (a.num_experts <= 8)
    return gate_in_lanes<T, 8, 1>(on, a);
  else if (a.num_experts <= 16)
    return gate_in_lanes<T, 8, 2>(on, a);
  else if (a.num_experts <= 32)
    return gate_in_lanes<T, 8, 4>(on, a);
  else if (a.num_experts <= 64)
    return gate_in_lanes<T, 8, 8>(on, a);
  else if (a.num_experts <= 128)
    return gate_in_lanes<T, 8, 16>(on, a);
  else if (a.num_experts <= 256)
    return gate_in_lanes<T, 16, 16>(on, a);
  else if (a.num_experts <= 512)
    return gate_in_lanes<T, 32, 16>(on, a);
  else if (a.num_experts <= 1024)
    return gate_in_lanes<T, 32, 32>(on, a);
  else
    return gate_in_block<T>(on, a);
}

template <class T>
Status gate_noisy(Cuda on, TopkGate a) {
  const int64_t threads = int64_t{a.tokens} * ((a.num_experts + 1) / 2),
                blocks = (threads + kGateThreads - 1) / kGateThreads;
  if (blocks > std::numeric_limits<int>::max()) return Status::unsupported;
  const Status status = launch(on, {dim3(static_cast<unsigned>(blocks)), dim3(kGateThreads)},
                               gate_noise_kernel<T>, a);
  if (status != Status::ok) return status;
  a.logits = a.noisy_logits;
  return gate<compute_t<T>>(on, a);
}

template <class T, class Logits, int L>
Status gate_grad(Cuda on, const TopkGateGrad& a, const void* logits) {
  return with_vector<Logits>(a.num_experts, {logits, a.d_logits}, [&]<int Size>() {
    constexpr int N = sizeof(T) == sizeof(Logits) ? Size : 1;
    return launch(on, lanes_grid<L>(a.tokens), gate_grad_kernel<T, Logits, L, N>, a,
                  static_cast<const Logits*>(logits));
  });
}

}  // namespace

size_t topk_gate_workspace(Cuda, const TopkGate& a) {
  if (a.noisy_logits || a.noise.deviation == 0) return 0;
  const size_t value = a.dtype == Dtype::f64 ? 8 : 4;
  return static_cast<size_t>(a.tokens) * static_cast<size_t>(a.num_experts) * value;
}

Status topk_gate(Cuda on, const TopkGate& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (a.num_experts > kBlockExperts) return Status::unsupported;
  if (on.workspace_bytes < topk_gate_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    if (!a.noisy_logits && a.noise.deviation == 0) return gate<T>(on, a);
    TopkGate noisy = a;
    if (!a.noisy_logits) noisy.noisy_logits = on.workspace;
    return gate_noisy<T>(on, noisy);
  });
}

Status topk_gate_grad(Cuda on, const TopkGateGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const bool is_narrow = a.num_experts <= 64;
    if (!a.noisy_logits)
      return is_narrow ? gate_grad<T, T, 8>(on, a, a.logits) : gate_grad<T, T, 32>(on, a, a.logits);
    using C = compute_t<T>;
    return is_narrow ? gate_grad<T, C, 8>(on, a, a.noisy_logits)
                     : gate_grad<T, C, 32>(on, a, a.noisy_logits);
  });
}

}  // namespace moat::kernels
