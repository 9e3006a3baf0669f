#include "kernels/gate/gate_losses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
double logit(T x) {
  const double wide = static_cast<compute_t<T>>(x);
  return std::isnan(wide) ? -kInfinity : wide;
}

// The softmax of a row, in float64; equal infinite maxima share the probability.
template <class T>
struct Row {
  const T* x;
  int n;
  double max = -kInfinity, sum = 0;

  Row(const T* row, int count) : x(row), n(count) {
    for (int i = 0; i < n; ++i) max = std::max(max, logit(x[i]));
    for (int i = 0; i < n; ++i) sum += relative_exp(i);
  }
  double operator[](int i) const { return logit(x[i]); }
  double relative_exp(int i) const { return (*this)[i] == max ? 1 : std::exp((*this)[i] - max); }
  double probability(int i) const { return relative_exp(i) / sum; }
  double log_sum_exp() const { return std::isinf(max) ? max : max + std::log(sum); }
};

// How far x lies above the threshold, in deviations; equal infinities are as far as each other.
double excess(double x, double threshold, double deviation) {
  return x == threshold ? 0 : (x - threshold) / deviation;
}
double normal_cdf(double u) { return 0.5 * std::erfc(-u * M_SQRT1_2); }
double normal_density(double u) { return std::exp(-0.5 * u * u) * 0.3989422804014327; }

Variation variation_of(const double* sums, int count) {
  Variation v{.count = count};
  for (int e = 0; e < count; ++e) v.mean += sums[e] / count;
  if (v.mean == 0) return v;
  double squares = 0;
  for (int e = 0; e < count; ++e) squares += (sums[e] - v.mean) * (sums[e] - v.mean);
  v.variation = squares / count / (v.mean * v.mean);
  return v;
}

double* row_of(double* sums, ExpertSum row, int experts) {
  return sums + static_cast<int64_t>(row) * experts;
}
const double* row_of(const double* sums, ExpertSum row, int experts) {
  return sums + static_cast<int64_t>(row) * experts;
}

template <class T>
void add_token(const GateLosses& a, int64_t token, double* sums) {
  using C = compute_t<T>;
  const int n = a.num_experts;
  double *importance = row_of(sums, ExpertSum::importance, n),
         *gates = row_of(sums, ExpertSum::gates, n), *load = row_of(sums, ExpertSum::load, n);
  const Row<T> x(static_cast<const T*>(a.logits) + token * n, n);
  for (int i = 0; i < n; ++i) importance[i] += x.probability(i);
  sums[piece_size(n) - 1] += x.log_sum_exp() * x.log_sum_exp();
  row_of(sums, ExpertSum::first_choices, n)[a.experts[token * a.k]] += 1;
  if (!a.noisy_logits) {
    for (int i = 0; i < n; ++i) gates[i] += x.probability(i);
    return;
  }
  const Row<C> noisy(static_cast<const C*>(a.noisy_logits) + token * n, n);
  const double threshold = noisy[a.experts[token * a.k + a.k - 1]];
  for (int i = 0; i < n; ++i) {
    gates[i] += noisy.probability(i);
    load[i] += normal_cdf(excess(x[i], threshold, a.deviation));
  }
}

double balance_of(const double* sums, int experts, int tokens) {
  const double *gates = row_of(sums, ExpertSum::gates, experts),
               *first = row_of(sums, ExpertSum::first_choices, experts);
  double sum = 0;
  for (int e = 0; e < experts; ++e) sum += gates[e] / tokens * (first[e] / tokens);
  return experts * sum;
}

}  // namespace

size_t gate_losses_workspace(Cpu, const GateLosses& a) {
  return static_cast<size_t>(num_pieces(a.tokens) * piece_size(a.num_experts)) * sizeof(double);
}

Status gate_losses(Cpu on, const GateLosses& a) {
  if (!is_valid_gate_loss(a)) return Status::bad_args;
  if (!indices_in_range(a.experts, int64_t{a.tokens} * a.k, a.num_experts)) return Status::bad_args;
  if (on.workspace_bytes < gate_losses_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const int n = a.num_experts;
    const int64_t size = piece_size(n);
    double* partial = static_cast<double*>(on.workspace);
    parallel_for(num_pieces(a.tokens), 1, [&](int64_t from, int64_t to) {
      for (int piece = static_cast<int>(from); piece < to; ++piece) {
        double* sums = partial + piece * size;
        std::fill(sums, sums + size, 0.0);
        for (int64_t t = piece_begin(a.tokens, piece); t < piece_begin(a.tokens, piece + 1); ++t)
          add_token<T>(a, t, sums);
      }
    });
    for (int piece = 1; piece < num_pieces(a.tokens); ++piece)
      for (int64_t i = 0; i < size; ++i) partial[i] += partial[piece * size + i];
    std::copy(partial, partial + kExpertSums * n, a.sums);
    C* losses = static_cast<C*>(a.losses);
    std::fill(losses, losses + kGateLosses, C(0));
    if (a.tokens == 0) return Status::ok;
    const auto set = [&](GateLoss loss, double value) {
      losses[static_cast<int>(loss)] = static_cast<C>(value);
    };
    set(GateLoss::importance, variation_of(row_of(a.sums, ExpertSum::importance, n), n).variation);
    set(GateLoss::load, variation_of(row_of(a.sums, ExpertSum::load, n), n).variation);
    set(GateLoss::balance, balance_of(a.sums, n, a.tokens));
    set(GateLoss::z, partial[size - 1] / a.tokens);
    return Status::ok;
  });
}

namespace {

// d(total) / d of each token's p, q and Phi of an expert, [3, experts]; and of log_sum_exp^2.
struct Slopes {
  double *importance, *gates, *load;
  double z;
};

template <class C>
Slopes slopes_of(const GateLossesGrad& a, double* memory) {
  const int n = a.num_experts;
  const C* d = static_cast<const C*>(a.d_losses);
  const double *importance = row_of(a.sums, ExpertSum::importance, n),
               *load = row_of(a.sums, ExpertSum::load, n),
               *first = row_of(a.sums, ExpertSum::first_choices, n);
  const Variation v = variation_of(importance, n), w = variation_of(load, n);
  const Slopes s{memory, memory + n, memory + 2 * n,
                 double{d[static_cast<int>(GateLoss::z)]} / a.tokens};
  for (int e = 0; e < n; ++e) {
    s.importance[e] = d[static_cast<int>(GateLoss::importance)] * v.gradient(importance[e]);
    s.load[e] = d[static_cast<int>(GateLoss::load)] * w.gradient(load[e]);
    s.gates[e] =
        double{d[static_cast<int>(GateLoss::balance)]} * n * (first[e] / a.tokens) / a.tokens;
  }
  return s;
}

template <class T>
double mean_slope(const Row<T>& row, const double* slopes) {
  double mean = 0;
  for (int i = 0; i < row.n; ++i) mean += row.probability(i) * slopes[i];
  return mean;
}

template <class T>
void grad_token(const GateLossesGrad& a, int64_t token, const Slopes& s) {
  using C = compute_t<T>;
  const int n = a.num_experts;
  T* d_logits = static_cast<T*>(a.d_logits) + token * n;
  const Row<T> x(static_cast<const T*>(a.logits) + token * n, n);
  const double mean = mean_slope(x, s.importance), lse = x.log_sum_exp(),
               of_z = s.z == 0 ? 0 : 2 * s.z * lse;
  const auto clean = [&](int i) { return x.probability(i) * (s.importance[i] - mean + of_z); };
  if (!a.noisy_logits) {
    const double mean_gate = mean_slope(x, s.gates);
    for (int i = 0; i < n; ++i)
      d_logits[i] = T(static_cast<C>(clean(i) + x.probability(i) * (s.gates[i] - mean_gate)));
    return;
  }
  const Row<C> noisy(static_cast<const C*>(a.noisy_logits) + token * n, n);
  const int last = a.experts[token * a.k + a.k - 1];
  const double mean_gate = mean_slope(noisy, s.gates);
  const auto through_load = [&](int i) {
    return s.load[i] * normal_density(excess(x[i], noisy[last], a.deviation)) / a.deviation;
  };
  double of_threshold = 0;
  for (int i = 0; i < n; ++i) of_threshold += through_load(i);
  for (int i = 0; i < n; ++i)
    d_logits[i] = T(static_cast<C>(clean(i) + noisy.probability(i) * (s.gates[i] - mean_gate) +
                                   through_load(i) - (i == last ? of_threshold : 0)));
}

}  // namespace

size_t gate_losses_grad_workspace(Cpu, const GateLossesGrad& a) {
  return 3 * static_cast<size_t>(a.num_experts) * sizeof(double);
}

Status gate_losses_grad(Cpu on, const GateLossesGrad& a) {
  if (!is_valid_gate_loss(a)) return Status::bad_args;
  if (!indices_in_range(a.experts, int64_t{a.tokens} * a.k, a.num_experts)) return Status::bad_args;
  if (on.workspace_bytes < gate_losses_grad_workspace(on, a)) return Status::small_workspace;
  if (a.tokens == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    const Slopes slopes = slopes_of<compute_t<T>>(a, static_cast<double*>(on.workspace));
    parallel_for(a.tokens, 1 + 1024 / a.num_experts, [&](int64_t from, int64_t to) {
      for (int64_t token = from; token < to; ++token) grad_token<T>(a, token, slopes);
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
