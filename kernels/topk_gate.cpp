#include "kernels/topk_gate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/index_range.h"
#include "kernels/parallel.h"
#include "kernels/sigmoid.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;   // logits a block of tokens holds at least
constexpr int64_t kMaxBlocks = 64;  // each block has scratch memory of its own

template <class C>
constexpr C kInfinity = std::numeric_limits<C>::infinity();

int64_t num_blocks(const TopkGate& a) {
  const int64_t work = int64_t{a.tokens} * a.num_experts;
  return std::clamp<int64_t>(work / kGrain, 1, kMaxBlocks);
}

// Scratch memory of one block of tokens: a row of selection scores and one of expert indices.
int64_t scratch_bytes(const TopkGate& a) { return int64_t{a.num_experts} * 16; }

// A logit as the gate sees it: NaN counts as -inf.
template <class T>
compute_t<T> logit(T x) {
  using C = compute_t<T>;
  return std::isnan(C(x)) ? -kInfinity<C> : C(x);
}

// exp(x - max) with equal infinities at a distance of 0.
template <class C>
C relative_exp(C x, C max) {
  return x == max ? C(1) : std::exp(x - max);
}

// The normaliser of a softmax over all experts.
template <class C>
struct AllExperts {
  C max;
  double sum;
  double probability(C x) const { return relative_exp(x, max) / sum; }
  C log_sum_exp() const { return std::isinf(max) ? max : static_cast<C>(max + std::log(sum)); }
};

template <class T>
auto all_experts(const T* logits, int n) {
  AllExperts<compute_t<T>> all{-kInfinity<compute_t<T>>, 0};
  for (int i = 0; i < n; ++i) all.max = std::max(all.max, logit(logits[i]));
  for (int i = 0; i < n; ++i) all.sum += relative_exp(logit(logits[i]), all.max);
  return all;
}

template <class T>
void selection_scores(const TopkGate& a, const T* logits, compute_t<T>* scores) {
  using C = compute_t<T>;
  for (int i = 0; i < a.num_experts; ++i) {
    scores[i] = logit(logits[i]);
    if (a.form != GateForm::sigmoid_topk || scores[i] == -kInfinity<C>) continue;
    scores[i] = portable_sigmoid(scores[i]);
    if (a.bias) scores[i] += C(static_cast<const T*>(a.bias)[i]);
    if (std::isnan(scores[i])) scores[i] = -kInfinity<C>;
  }
}

// Fills order[0 … k] (k + 1 entries where there are as many) by score, ties to the lowest index.
template <class C>
void select_best(const C* scores, int n, int k, int32_t* order) {
  for (int i = 0; i < n; ++i) order[i] = i;
  std::partial_sort(order, order + std::min(n, k + 1), order + n, [&](int32_t i, int32_t j) {
    return scores[i] != scores[j] ? scores[i] > scores[j] : i < j;
  });
}

template <class T>
void write_weights(const TopkGate& a, const T* logits, const AllExperts<compute_t<T>>& all,
                   const int32_t* order, T* weights) {
  using C = compute_t<T>;
  switch (a.form) {
    case GateForm::softmax_topk:
      for (int j = 0; j < a.k; ++j)
        weights[j] = T(static_cast<C>(all.probability(logit(logits[order[j]]))));
      break;
    case GateForm::softmax_topk_renorm:
    case GateForm::topk_softmax: {  // one function: the sum over all experts cancels
      double sum = 0;
      for (int j = 0; j < a.k; ++j) sum += relative_exp(logit(logits[order[j]]), all.max);
      for (int j = 0; j < a.k; ++j)
        weights[j] = T(static_cast<C>(relative_exp(logit(logits[order[j]]), all.max) / sum));
      break;
    }
    case GateForm::sigmoid_topk:
      for (int j = 0; j < a.k; ++j) {
        const C x = logit(logits[order[j]]);
        weights[j] = T(x == -kInfinity<C> ? C(0) : portable_sigmoid(x));
      }
  }
}

template <class T>
void gate_token(const TopkGate& a, int64_t token, compute_t<T>* scores, int32_t* order) {
  using C = compute_t<T>;
  const T* logits = static_cast<const T*>(a.logits) + token * a.num_experts;
  selection_scores(a, logits, scores);
  select_best(scores, a.num_experts, a.k, order);
  const auto all = all_experts(logits, a.num_experts);
  write_weights(a, logits, all, order, static_cast<T*>(a.weights) + token * a.k);
  std::copy(order, order + a.k, a.experts + token * a.k);
  C margin = kInfinity<C>;
  if (a.k < a.num_experts) {
    const C last = scores[order[a.k - 1]], next = scores[order[a.k]];
    margin = last == next ? C(0) : last - next;
  }
  static_cast<T*>(a.margin)[token] = T(margin);
  static_cast<T*>(a.log_sum_exp)[token] = T(all.log_sum_exp());
}

bool is_valid(int tokens, int num_experts, int k) {
  return tokens >= 0 && k >= 1 && k <= num_experts;
}

}  // namespace

size_t topk_gate_workspace(Cpu, const TopkGate& a) {
  return static_cast<size_t>(num_blocks(a) * scratch_bytes(a));
}

Status topk_gate(Cpu on, const TopkGate& a) {
  if (!is_valid(a.tokens, a.num_experts, a.k)) return Status::bad_args;
  if (a.bias && a.form != GateForm::sigmoid_topk) return Status::bad_args;
  if (on.workspace_bytes < topk_gate_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    const int64_t blocks = num_blocks(a);
    parallel_for(blocks, 1, [&](int64_t from, int64_t to) {
      for (int64_t block = from; block < to; ++block) {
        char* scratch = static_cast<char*>(on.workspace) + block * scratch_bytes(a);
        auto* scores = reinterpret_cast<compute_t<T>*>(scratch);
        auto* order = reinterpret_cast<int32_t*>(scratch + int64_t{a.num_experts} * 8);
        const int64_t end = a.tokens * (block + 1) / blocks;
        for (int64_t token = a.tokens * block / blocks; token < end; ++token)
          gate_token<T>(a, token, scores, order);
      }
    });
    return Status::ok;
  });
}

namespace {

template <class T>
void grad_token(const TopkGateGrad& a, int64_t token) {
  using C = compute_t<T>;
  const T* logits = static_cast<const T*>(a.logits) + token * a.num_experts;
  T* d_logits = static_cast<T*>(a.d_logits) + token * a.num_experts;
  const int32_t* experts = a.experts + token * a.k;
  const T* w = static_cast<const T*>(a.weights) + token * a.k;
  const T* d_w = static_cast<const T*>(a.d_weights) + token * a.k;
  double sum = 0;
  for (int j = 0; j < a.k; ++j) sum += double{C(w[j])} * C(d_w[j]);
  std::fill(d_logits, d_logits + a.num_experts, T(C{0}));
  if (a.form == GateForm::softmax_topk) {
    const auto all = all_experts(logits, a.num_experts);
    for (int i = 0; i < a.num_experts; ++i)
      d_logits[i] = T(static_cast<C>(-all.probability(logit(logits[i])) * sum));
    for (int j = 0; j < a.k; ++j)
      d_logits[experts[j]] = T(static_cast<C>(C(w[j]) * (C(d_w[j]) - sum)));
  } else if (a.form == GateForm::sigmoid_topk) {
    for (int j = 0; j < a.k; ++j) {
      const C rest = portable_sigmoid(-logit(logits[experts[j]]));  // 1 - w, no cancellation
      d_logits[experts[j]] = T(C(d_w[j]) * C(w[j]) * rest);
    }
  } else {
    for (int j = 0; j < a.k; ++j)
      d_logits[experts[j]] = T(static_cast<C>(C(w[j]) * (C(d_w[j]) - sum)));
  }
}

}  // namespace

Status topk_gate_grad(Cpu, const TopkGateGrad& a) {
  if (!is_valid(a.tokens, a.num_experts, a.k)) return Status::bad_args;
  if (!indices_in_range(a.experts, int64_t{a.tokens} * a.k, a.num_experts)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.tokens, 1 + kGrain / a.num_experts, [&](int64_t from, int64_t to) {
      for (int64_t token = from; token < to; ++token) grad_token<T>(a, token);
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
