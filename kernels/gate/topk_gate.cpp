#include "kernels/gate/topk_gate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>

#include "kernels/basic/exponential.h"
#include "kernels/gate/gate_score.h"
#include "kernels/index_range.h"
#include "kernels/parallel.h"
#include "kernels/pieces.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;   // logits a block of tokens holds at least
constexpr int64_t kMaxBlocks = 64;  // each block has scratch memory of its own

int64_t num_blocks(const TopkGate& a) {
  const int64_t work = int64_t{a.tokens} * a.num_experts;
  return std::clamp<int64_t>(work / kGrain, 1, kMaxBlocks);
}

// Scratch memory of one block of tokens: noisy logits, what becomes their exponentials, selection
// scores, scores of groups, the experts to choose from and the chosen ones.
template <class C>
struct Scratch {
  C *logits, *exponentials, *scores, *groups;
  int32_t *eligible, *best;
  Scratch(char* at, int experts)
      : logits(reinterpret_cast<C*>(at)),
        exponentials(logits + experts),
        scores(exponentials + experts),
        groups(scores + experts),
        eligible(reinterpret_cast<int32_t*>(groups + experts)),
        best(eligible + experts) {}
};
int64_t scratch_bytes(const TopkGate& a) {
  return static_cast<int64_t>(in_lines(static_cast<size_t>(a.num_experts) * (4 * 8 + 2 * 4)));
}

// The row as the gate sees it: no NaN, with its noise.
template <class T, class C>
void noisy_logits(const T* logits, int n, const GateNoise& noise, int64_t token, C* out) {
  for (int i = 0; i < n; ++i) out[i] = without_nan(C(logits[i]));
  if (noise.deviation == 0) return;
  for (int i = 0; i < n; i += 2) {
    const auto pair = noise_of_pair<C>(noise, token, i / 2);
    for (int j = i; j < std::min(i + 2, n); ++j) out[j] += pair[static_cast<size_t>(j - i)];
  }
}

// exp(x - max) with equal infinities at a distance of 0.
template <class C>
constexpr C relative_exp(C x, C max) {
  const C e = exp_not_positive(x - max);
  return x == max ? C(1) : e;
}

// The normaliser of a softmax over all experts.
template <class C>
struct AllExperts {
  C max;
  double sum;
  double probability(C x) const { return relative_exp(x, max) / sum; }
  C log_sum_exp() const { return std::isinf(max) ? max : static_cast<C>(max + std::log(sum)); }
};

template <class C>
AllExperts<C> all_experts(const C* logits, int n, C* exponentials) {
  C max = -kInfinity<C>;
#pragma omp simd reduction(max : max)
  for (int i = 0; i < n; ++i) max = std::max(max, logits[i]);
  for (int i = 0; i < n; ++i) exponentials[i] = relative_exp(logits[i], max);
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += exponentials[i];
  return {max, sum};
}

// The `count` best of `candidates` by falling score, ties to the first; candidates ascend.
template <class C, class Candidate>
void select_best(const C* scores, int candidates, Candidate&& candidate, int count, int32_t* best) {
  int found = 0;
  for (int c = 0; c < candidates; ++c) {
    const int32_t i = candidate(c);
    const C score = scores[i];
    if (found == count && !(score > scores[best[count - 1]])) continue;
    int at = found < count ? found++ : count - 1;
    for (; at > 0 && score > scores[best[at - 1]]; --at) best[at] = best[at - 1];
    best[at] = i;
  }
}

// Which experts can be selected, and what parts the last kept group from the next.
template <class C>
struct Eligible {
  int count;
  bool all;
  C margin;
};

template <class C>
Eligible<C> eligible_experts(const TopkGate& a, const Scratch<C>& scratch) {
  const ExpertGroups& g = a.groups;
  if (g.kept == g.count) return {a.num_experts, true, kInfinity<C>};
  const auto [scores, groups, order] = std::tuple(scratch.scores, scratch.groups, scratch.best);
  const int size = a.num_experts / g.count;
  for (int group = 0; group < g.count; ++group) {
    C first = -kInfinity<C>, second = first;
    for (const C* score = scores + group * size; score < scores + (group + 1) * size; ++score) {
      second = std::max(second, std::min(first, *score));
      first = std::max(first, *score);
    }
    groups[group] = group_score(g.score, first, second);
  }
  select_best(groups, g.count, std::identity{}, g.kept + 1, order);
  const int32_t last = order[g.kept - 1], next = order[g.kept];
  int count = 0;
  for (int group = 0; group < g.count; ++group)
    if (groups[group] > groups[last] || (groups[group] == groups[last] && group <= last))
      for (int i = 0; i < size; ++i) scratch.eligible[count++] = group * size + i;
  return {count, false, group_margin(g.score, groups[last], groups[next])};
}

template <class C>
void write_weights(const TopkGate& a, const C* logits, const AllExperts<C>& all,
                   const int32_t* order, C* weights) {
  switch (a.form) {
    case GateForm::softmax_topk:
      for (int j = 0; j < a.k; ++j) weights[j] = static_cast<C>(all.probability(logits[order[j]]));
      break;
    case GateForm::softmax_topk_renorm:
    case GateForm::topk_softmax: {     // one function: the sum over all experts cancels
      const C max = logits[order[0]];  // groups may leave a larger one out
      double sum = 0;
      for (int j = 0; j < a.k; ++j) sum += relative_exp(logits[order[j]], max);
      for (int j = 0; j < a.k; ++j)
        weights[j] = static_cast<C>(relative_exp(logits[order[j]], max) / sum);
      break;
    }
    case GateForm::sigmoid_topk:
      for (int j = 0; j < a.k; ++j) {
        const C x = logits[order[j]];
        weights[j] = x == -kInfinity<C> ? C(0) : portable_sigmoid(x);
      }
  }
}

template <class T>
void gate_token(const TopkGate& a, int64_t token, const Scratch<compute_t<T>>& scratch) {
  using C = compute_t<T>;
  const int n = a.num_experts;
  const C* bias = static_cast<const C*>(a.bias);
  C *logits = scratch.logits, *scores = scratch.scores;
  noisy_logits(static_cast<const T*>(a.logits) + token * n, n, a.noise, token, logits);
  if (a.noisy_logits)
    for (int i = 0; i < n; ++i) static_cast<C*>(a.noisy_logits)[token * n + i] = logits[i];
  if (a.form == GateForm::sigmoid_topk)
    for (int i = 0; i < n; ++i)
      scores[i] = selection_score(a.form, logits[i], bias ? bias[i] : C(0));
  else
    std::copy_n(logits, n, scores);
  const Eligible<C> eligible = eligible_experts(a, scratch);
  const int wanted = std::min(eligible.count, a.k + 1);
  if (eligible.all)
    select_best(scores, n, std::identity{}, wanted, scratch.best);
  else
    select_best(
        scores, eligible.count, [&](int c) { return scratch.eligible[c]; }, wanted, scratch.best);
  C margin = eligible.margin;
  if (a.k < eligible.count) {
    const C last = scores[scratch.best[a.k - 1]], next = scores[scratch.best[a.k]];
    margin = std::min(margin, last == next ? C(0) : last - next);
  }
  const auto all = all_experts(logits, n, scratch.exponentials);
  write_weights(a, logits, all, scratch.best, static_cast<C*>(a.weights) + token * a.k);
  std::copy_n(scratch.best, a.k, a.experts + token * a.k);
  static_cast<C*>(a.margin)[token] = margin;
  static_cast<C*>(a.log_sum_exp)[token] = all.log_sum_exp();
}

}  // namespace

size_t topk_gate_workspace(Cpu, const TopkGate& a) {
  return static_cast<size_t>(num_blocks(a) * scratch_bytes(a));
}

Status topk_gate(Cpu on, const TopkGate& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < topk_gate_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    const int64_t blocks = num_blocks(a);
    parallel_for(blocks, 1, [&](int64_t from, int64_t to) {
      for (int64_t block = from; block < to; ++block) {
        const Scratch<compute_t<T>> scratch(
            static_cast<char*>(on.workspace) + block * scratch_bytes(a), a.num_experts);
        const int64_t end = a.tokens * (block + 1) / blocks;
        for (int64_t token = a.tokens * block / blocks; token < end; ++token)
          gate_token<T>(a, token, scratch);
      }
    });
    return Status::ok;
  });
}

namespace {

// Logits is T, or the compute format for noisy logits.
template <class T, class Logits>
void grad_token(const TopkGateGrad& a, int64_t token, const Logits* logits) {
  using C = compute_t<T>;
  const int n = a.num_experts;
  T* d_logits = static_cast<T*>(a.d_logits) + token * n;
  const int32_t* experts = a.experts + token * a.k;
  const C* w = static_cast<const C*>(a.weights) + token * a.k;
  const C* d_w = static_cast<const C*>(a.d_weights) + token * a.k;
  const auto logit = [&](int i) { return without_nan(C(logits[i])); };
  double sum = 0;
  for (int j = 0; j < a.k; ++j) sum += double{w[j]} * d_w[j];
  std::fill(d_logits, d_logits + n, T(C{0}));
  if (a.form == GateForm::sigmoid_topk) {
    for (int j = 0; j < a.k; ++j) {
      const C rest = portable_sigmoid(-logit(experts[j]));  // 1 - w, no cancellation
      d_logits[experts[j]] = T(d_w[j] * w[j] * rest);
    }
    return;
  }
  if (a.form == GateForm::softmax_topk) {
    AllExperts<C> all{-kInfinity<C>, 0};
    for (int i = 0; i < n; ++i) all.max = std::max(all.max, logit(i));
    for (int i = 0; i < n; ++i) all.sum += relative_exp(logit(i), all.max);
    for (int i = 0; i < n; ++i) d_logits[i] = T(static_cast<C>(-all.probability(logit(i)) * sum));
  }
  for (int j = 0; j < a.k; ++j) d_logits[experts[j]] = T(static_cast<C>(w[j] * (d_w[j] - sum)));
}

}  // namespace

Status topk_gate_grad(Cpu, const TopkGateGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (!indices_in_range(a.experts, int64_t{a.tokens} * a.k, a.num_experts)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.tokens, 1 + kGrain / a.num_experts, [&](int64_t from, int64_t to) {
      for (int64_t token = from; token < to; ++token)
        if (a.noisy_logits)
          grad_token<T>(a, token, static_cast<const C*>(a.noisy_logits) + token * a.num_experts);
        else
          grad_token<T>(a, token, static_cast<const T*>(a.logits) + token * a.num_experts);
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
