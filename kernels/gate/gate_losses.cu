#include "kernels/gate/gate_losses.h"

#include <algorithm>

#include "kernels/gate/gate_score.h"
#include "kernels/gate/topk_gate/rows.cuh"

namespace moat::kernels {

namespace {

constexpr int kMostExperts = 4096;
constexpr int kThreads = 256;

// The softmax of a row that L lanes share; equal infinite maxima share the probability.
template <class C>
struct SharedSoftmax {
  C max, sum;
  __device__ C probability(C x) const { return relative_exp(x, max) / sum; }
};
template <int L, int N, class T>
__device__ SharedSoftmax<compute_t<T>> shared_softmax(const T* row, int n, int lane) {
  using C = compute_t<T>;
  SharedSoftmax<C> s{-INFINITY, 0};
  read_row<L, N>(row, n, lane, [&](int, C x) { s.max = max(s.max, without_nan(x)); });
  s.max = warp_reduce<L>(s.max, Largest());
  read_row<L, N>(row, n, lane, [&](int, C x) { s.sum += relative_exp(without_nan(x), s.max); });
  s.sum = warp_reduce<L>(s.sum, Sum());
  return s;
}

// How far x lies above the threshold, in deviations; equal infinities are as far as each other.
template <class C>
__device__ C excess(C x, C threshold, C deviation) {
  return x == threshold ? C(0) : (x - threshold) / deviation;
}

// An expert's slots in shared memory or of a partial sum: [4, experts], then one for z.
__device__ int64_t slot(ExpertSum row, int expert, int num_experts) {
  return int64_t{static_cast<int>(row)} * num_experts + expert;
}

// One piece of tokens per block. L lanes share a token and own the experts lane, lane + L, …, whose
// sums they keep in shared memory in float64; the groups of lanes are then added in order. Bytes: a
// read of the logits, from the cache for the second and third pass.
template <class T, int L>
__global__ void gate_sums_kernel(GateLosses a, double* partial) {
  using C = compute_t<T>;
  const int n = a.num_experts, piece = static_cast<int>(blockIdx.x),
            thread = static_cast<int>(threadIdx.x), lane = thread % L, group = thread / L,
            groups = static_cast<int>(blockDim.x) / L;
  const int64_t size = piece_size(n);
  double* all = shared_memory<double>();
  double* mine = all + group * size;
  for (int e = lane; e < n; e += L)
    for (int row = 0; row < kExpertSums; ++row) mine[int64_t{row} * n + e] = 0;
  double z = 0;

  const int64_t end = piece_begin(a.tokens, piece + 1);
  for (int64_t first = piece_begin(a.tokens, piece); first < end; first += groups) {
    const bool counts = first + group < end;  // whole warps shuffle
    const int64_t token = counts ? first + group : end - 1;
    const T* row = static_cast<const T*>(a.logits) + token * n;
    const int32_t* experts = a.experts + token * a.k;
    const auto x = shared_softmax<L, 1>(row, n, lane);
    const double log_sum = double{log_of_sum(x.max, x.sum)};
    if (counts) z += log_sum * log_sum;
    for (int e = lane; counts && e < n; e += L) {
      const double p = double{x.probability(without_nan(C(row[e])))};
      mine[slot(ExpertSum::importance, e, n)] += p;
      if (!a.noisy_logits) mine[slot(ExpertSum::gates, e, n)] += p;
      if (e == experts[0]) mine[slot(ExpertSum::first_choices, e, n)] += 1;
    }
    if (!a.noisy_logits) continue;
    const C* noisy_row = static_cast<const C*>(a.noisy_logits) + token * n;
    const auto noisy = shared_softmax<L, 1>(noisy_row, n, lane);
    const int last = experts[a.k - 1];
    const C threshold = last >= 0 && last < n ? without_nan(noisy_row[last]) : C(0);
    for (int e = lane; counts && e < n; e += L) {
      mine[slot(ExpertSum::gates, e, n)] += double{noisy.probability(without_nan(noisy_row[e]))};
      const C u = excess(without_nan(C(row[e])), threshold, C(a.deviation));
      mine[slot(ExpertSum::load, e, n)] += double{erfc(-u * C(0.7071067811865476)) / 2};
    }
  }
  if (lane == 0) mine[size - 1] = z;
  __syncthreads();
  for (int64_t i = thread; i < size; i += blockDim.x) {
    double sum = 0;
    for (int g = 0; g < groups; ++g) sum += all[g * size + i];
    partial[piece * size + i] = sum;
  }
}

// sums = the pieces added in order: eight runs of consecutive pieces per column, then the runs.
__global__ void __launch_bounds__(kThreads)
    gate_pieces_kernel(const double* partial, int pieces, int64_t size, double* sums, double* z) {
  constexpr int kRuns = kThreads / kWarp;
  __shared__ double runs[kRuns][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            run = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane;
  double sum = 0;
  if (column < size) {
#pragma unroll 8
    for (int piece = pieces * run / kRuns; piece < pieces * (run + 1) / kRuns; ++piece)
      sum += partial[piece * size + column];
  }
  runs[run][lane] = sum;
  __syncthreads();
  if (run != 0 || column >= size) return;
  for (int r = 1; r < kRuns; ++r) sum += runs[r][lane];
  *(column < size - 1 ? sums + column : z) = sum;
}

__device__ Variation variation_of(const double* sums, int n, double* scratch) {
  const int thread = static_cast<int>(threadIdx.x);
  Variation v{.count = n};
  double sum = 0, squares = 0;
  for (int e = thread; e < n; e += kThreads) sum += sums[e] / n;
  v.mean = block_reduce<kThreads>(sum, Sum(), scratch);
  for (int e = thread; e < n; e += kThreads) squares += (sums[e] - v.mean) * (sums[e] - v.mean);
  squares = block_reduce<kThreads>(squares, Sum(), scratch);
  if (v.mean != 0) v.variation = squares / n / (v.mean * v.mean);
  return v;
}

// One block.
template <class C>
__global__ void __launch_bounds__(kThreads) gate_losses_kernel(GateLosses a, const double* z) {
  __shared__ double scratch[kThreads / kWarp];
  const int n = a.num_experts;
  const double *gates = a.sums + slot(ExpertSum::gates, 0, n),
               *choices = a.sums + slot(ExpertSum::first_choices, 0, n);
  const Variation importance = variation_of(a.sums, n, scratch),
                  load = variation_of(a.sums + slot(ExpertSum::load, 0, n), n, scratch);
  double balance = 0;
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kThreads)
    balance += gates[e] / a.tokens * (choices[e] / a.tokens);
  balance = block_reduce<kThreads>(balance, Sum(), scratch);
  if (threadIdx.x != 0) return;
  const bool is_empty = a.tokens == 0;
  C* losses = static_cast<C*>(a.losses);
  losses[static_cast<int>(GateLoss::importance)] = static_cast<C>(importance.variation);
  losses[static_cast<int>(GateLoss::load)] = static_cast<C>(load.variation);
  losses[static_cast<int>(GateLoss::balance)] = static_cast<C>(is_empty ? 0 : n * balance);
  losses[static_cast<int>(GateLoss::z)] = static_cast<C>(is_empty ? 0 : *z / a.tokens);
}

template <class T, int L>
Status run_losses(Cuda on, const GateLosses& a) {
  constexpr int kSharedBytes = 48 * 1024, kMostGroups = kThreads / L;
  const int64_t size = piece_size(a.num_experts), bytes = size * int64_t{sizeof(double)};
  const int groups = std::clamp(static_cast<int>(kSharedBytes / bytes) / (kWarp / L) * (kWarp / L),
                                kWarp / L, kMostGroups);
  const int pieces = num_pieces(a.tokens);
  double *partial = static_cast<double*>(on.workspace), *z = partial + pieces * size;
  const Status status =
      launch(on,
             {dim3(static_cast<unsigned>(pieces)), dim3(static_cast<unsigned>(groups * L)),
              static_cast<size_t>(groups * bytes)},
             gate_sums_kernel<T, L>, a, partial);
  if (status != Status::ok) return status;
  const Status added =
      launch(on, {dim3(static_cast<unsigned>((size + kWarp - 1) / kWarp)), dim3(kThreads)},
             gate_pieces_kernel, partial, pieces, size, a.sums, z);
  if (added != Status::ok) return added;
  return launch(on, {dim3(1), dim3(kThreads)}, gate_losses_kernel<compute_t<T>>, a, z);
}

// d(total) / d of each token's p, q and Phi of an expert, [3, experts]. One block.
template <class C>
__global__ void __launch_bounds__(kThreads) gate_slopes_kernel(GateLossesGrad a, C* slopes) {
  __shared__ double scratch[kThreads / kWarp];
  const int n = a.num_experts;
  const C* d = static_cast<const C*>(a.d_losses);
  const double *importance = a.sums, *load = a.sums + slot(ExpertSum::load, 0, n),
               *choices = a.sums + slot(ExpertSum::first_choices, 0, n);
  const Variation v = variation_of(importance, n, scratch), w = variation_of(load, n, scratch);
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kThreads) {
    slopes[e] =
        static_cast<C>(d[static_cast<int>(GateLoss::importance)] * v.gradient(importance[e]));
    slopes[n + e] = static_cast<C>(double{d[static_cast<int>(GateLoss::balance)]} * n *
                                   (choices[e] / a.tokens) / a.tokens);
    slopes[2 * n + e] = static_cast<C>(d[static_cast<int>(GateLoss::load)] * w.gradient(load[e]));
  }
}

// L lanes per token. Bytes: a read of the logits (and the noisy ones) and a write of d_logits.
template <class T, int L, int N, bool IsNoisy>
__global__ void __launch_bounds__(kGateThreads, 6)
    gate_losses_grad_kernel(GateLossesGrad a, const compute_t<T>* slopes) {
  using C = compute_t<T>;
  const TokenLane<L> at(a.tokens);
  const int n = a.num_experts;
  const C *by_importance = slopes, *by_gates = slopes + n, *by_load = slopes + 2 * n;
  const T* row = static_cast<const T*>(a.logits) + at.token * n;
  const C* noisy_row = static_cast<const C*>(a.noisy_logits) + at.token * n;

  const auto x = shared_softmax<L, N>(row, n, at.lane);
  SharedSoftmax<C> q = x;
  C mean = 0, mean_gate = 0, threshold = 0, of_threshold = 0;
  const int last = a.experts[at.token * a.k + a.k - 1];
  const auto through_load = [&](int i, C logit) {
    const C u = excess(without_nan(logit), threshold, C(a.deviation));
    return by_load[i] * exp(-u * u / 2) * C(0.3989422804014327 / a.deviation);
  };
  if constexpr (IsNoisy) {
    q = shared_softmax<L, N>(noisy_row, n, at.lane);
    if (last >= 0 && last < n) threshold = without_nan(noisy_row[last]);
    read_row<L, N>(noisy_row, n, at.lane,
                   [&](int i, C y) { mean_gate += q.probability(without_nan(y)) * by_gates[i]; });
  }
  read_row<L, N>(row, n, at.lane, [&](int i, C logit) {
    const C p = x.probability(without_nan(logit));
    mean += p * by_importance[i];
    if constexpr (IsNoisy)
      of_threshold += through_load(i, logit);
    else
      mean_gate += p * by_gates[i];
  });
  of_threshold = warp_reduce<L>(of_threshold, Sum());
  mean = warp_reduce<L>(mean, Sum());
  mean_gate = warp_reduce<L>(mean_gate, Sum());
  if (!at.writes) return;

  const C d_z = static_cast<const C*>(a.d_losses)[static_cast<int>(GateLoss::z)];
  const C of_z = d_z == 0 ? C(0) : 2 * d_z / C(a.tokens) * log_of_sum(x.max, x.sum);
  T* d_logits = static_cast<T*>(a.d_logits) + at.token * n;
  for (int i = at.lane * N; i < n; i += L * N) {
    const auto logits = load<N>(row + i);
    Vector<C, IsNoisy ? N : 1> noisy;
    if constexpr (IsNoisy) noisy = load<N>(noisy_row + i);
    Vector<T, N> d;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const C logit = C(logits.values[j]), p = x.probability(without_nan(logit));
      C sum = p * (by_importance[i + j] - mean + of_z), gate = p;
      if constexpr (IsNoisy) {
        gate = q.probability(without_nan(noisy.values[j]));
        sum += through_load(i + j, logit) - (i + j == last ? of_threshold : C(0));
      }
      d.values[j] = T(sum + gate * (by_gates[i + j] - mean_gate));
    }
    store(d_logits + i, d);
  }
}

template <class T, int L>
Status run_grad(Cuda on, const GateLossesGrad& a) {
  using C = compute_t<T>;
  C* slopes = static_cast<C*>(on.workspace);
  const Status status = launch(on, {dim3(1), dim3(kThreads)}, gate_slopes_kernel<C>, a, slopes);
  if (status != Status::ok) return status;
  const Grid grid = lanes_grid<L>(a.tokens);
  return with_vector<T>(a.num_experts, {a.logits, a.noisy_logits, a.d_logits}, [&]<int Size>() {
    constexpr int kNoisySize = sizeof(T) == 4 ? Size : 1;  // what both rows can have
    return a.noisy_logits
               ? launch(on, grid, gate_losses_grad_kernel<T, L, kNoisySize, true>, a, slopes)
               : launch(on, grid, gate_losses_grad_kernel<T, L, Size, false>, a, slopes);
  });
}

}  // namespace

size_t gate_losses_workspace(Cuda, const GateLosses& a) {
  return static_cast<size_t>(num_pieces(a.tokens) * piece_size(a.num_experts) + 1) * sizeof(double);
}

Status gate_losses(Cuda on, const GateLosses& a) {
  if (!is_valid_gate_loss(a)) return Status::bad_args;
  if (a.num_experts > kMostExperts) return Status::unsupported;
  if (on.workspace_bytes < gate_losses_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return a.num_experts <= 64 ? run_losses<T, 8>(on, a) : run_losses<T, 32>(on, a);
  });
}

size_t gate_losses_grad_workspace(Cuda, const GateLossesGrad& a) {
  return 3 * static_cast<size_t>(a.num_experts) * sizeof(double);
}

Status gate_losses_grad(Cuda on, const GateLossesGrad& a) {
  if (!is_valid_gate_loss(a)) return Status::bad_args;
  if (on.workspace_bytes < gate_losses_grad_workspace(on, a)) return Status::small_workspace;
  if (a.tokens == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return a.num_experts <= 64 ? run_grad<T, 8>(on, a) : run_grad<T, 32>(on, a);
  });
}

}  // namespace moat::kernels
