#include "kernels/gate/topk_gate.h"

#include <algorithm>
#include <cmath>

#include "kernels/basic/exponential.h"
#include "kernels/gate/gate_score.h"
#include "kernels/gate/token_lanes.h"
#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;   // logits a block of tokens holds at least
constexpr int64_t kMaxBlocks = 64;  // each block has scratch memory of its own

int64_t num_blocks(const TopkGate& a) {
  const int64_t work = int64_t{a.tokens} * a.num_experts;
  return std::clamp<int64_t>(work / kGrain, 1, kMaxBlocks);
}
int64_t num_slots(const TopkGate& a) { return int64_t{std::max(a.k, a.groups.kept)} + 2; }

// Scratch memory of one block of tokens.
template <class C>
struct Scratch {
  Lanes<C>*logits, *weights;    // [experts], [k]
  Lanes<Key<C>>*keys, *groups;  // [experts], [groups]: of their scores
  Best<Key<C>> best;
  Scratch(char* at, const TopkGate& a)
      : logits(reinterpret_cast<Lanes<C>*>(at)),
        weights(logits + a.num_experts),
        keys(reinterpret_cast<Lanes<Key<C>>*>(weights + a.k)),
        groups(keys + a.num_experts),
        best{groups + a.groups.count, groups + a.groups.count + num_slots(a)} {}
};
int64_t scratch_bytes(const TopkGate& a) {
  return 64 * (2 * int64_t{a.num_experts} + a.k + a.groups.count + 2 * num_slots(a));
}

// The token's row as the gate sees it: no NaN, with its noise.
template <class T, class C>
void load_token(const TopkGate& a, int64_t token, int lane, Lanes<C>* out) {
  const int n = a.num_experts;
  const T* logits = static_cast<const T*>(a.logits) + token * n;
  for (int i = 0; i < n; ++i) out[i][lane] = without_nan(C(logits[i]));
  if (a.noise.deviation != 0)
    for (int i = 0; i < n; i += 2) {
      const auto pair = noise_of_pair<C>(a.noise, token, i / 2);
      for (int j = i; j < std::min(i + 2, n); ++j) out[j][lane] += pair[static_cast<size_t>(j - i)];
    }
  if (a.noisy_logits)
    for (int i = 0; i < n; ++i) static_cast<C*>(a.noisy_logits)[token * n + i] = out[i][lane];
}

// exp(x - max) with equal infinities at a distance of 0.
template <class C>
constexpr C relative_exp(C x, C max) {
  const C e = exp_not_positive(x - max);
  return x == max ? C(1) : e;
}

// Each lane's softmax over the n logits of its column.
template <class C>
struct Normaliser {
  Lanes<C> max;
  std::array<double, kLanes<C>> sum{};
  Normaliser(const Lanes<C>* logits, int n) : max(logits[0]) {
    for (int i = 1; i < n; ++i)
      each_lane<C>([&](int l) { max[l] = std::max(max[l], logits[i][l]); });
    for (int i = 0; i < n; ++i)
      each_lane<C>([&](int l) { sum[l] += relative_exp(logits[i][l], max[l]); });
  }
  C probability(C x, int l) const { return static_cast<C>(relative_exp(x, max[l]) / sum[l]); }
  C log_sum_exp(int l) const {
    return std::isinf(max[l]) ? max[l] : static_cast<C>(max[l] + std::log(sum[l]));
  }
};

// Keys of the scores that selection compares.
template <class C>
void score_experts(const TopkGate& a, const Scratch<C>& s) {
  const C* bias = static_cast<const C*>(a.bias);
  for (int i = 0; i < a.num_experts; ++i)
    if (a.form == GateForm::sigmoid_topk)
      each_lane<C>([&, b = bias ? bias[i] : C(0)](int l) {
        s.keys[i][l] = key_of(selection_score(GateForm::sigmoid_topk, s.logits[i][l], b));
      });
    else
      each_lane<C>([&](int l) { s.keys[i][l] = key_of(s.logits[i][l]); });
}

// Takes their keys from the experts outside the best groups. `margin` becomes what parts the last
// kept group from the next.
template <class C>
void keep_best_groups(const TopkGate& a, const Scratch<C>& s, Lanes<C>& margin) {
  const ExpertGroups& g = a.groups;
  const int size = a.num_experts / g.count;
  for (int group = 0; group < g.count; ++group) {
    Lanes<Key<C>> first, second;
    first.fill(key_of(-kInfinity<C>));
    second = first;
    for (int i = group * size; i < (group + 1) * size; ++i)
      each_lane<C>([&](int l) {
        second[l] = std::max(second[l], std::min(first[l], s.keys[i][l]));
        first[l] = std::max(first[l], s.keys[i][l]);
      });
    each_lane<C>([&](int l) {
      s.groups[group][l] =
          key_of(group_score(g.score, score_of<C>(first[l]), score_of<C>(second[l])));
    });
  }
  select_best(s.groups, g.count, g.kept + 1, s.best);
  const auto &last = s.best.keys[g.kept], &next = s.best.keys[g.kept + 1];
  for (int i = 0; i < a.num_experts; ++i)
    each_lane<C>([&, group = i / size](int l) {
      const Key<C> key = s.groups[group][l];
      const bool kept = key > last[l] || (key == last[l] && group <= s.best.indices[g.kept][l]);
      s.keys[i][l] = kept ? s.keys[i][l] : kNone<Key<C>>;
    });
  each_lane<C>([&](int l) {
    margin[l] = group_margin(g.score, score_of<C>(last[l]), score_of<C>(next[l]));
  });
}

// The logits of the k chosen experts become their weights.
template <class C>
void weigh(const TopkGate& a, const Normaliser<C>& all, Lanes<C>* x) {
  if (a.form == GateForm::sigmoid_topk) {
    for (int j = 0; j < a.k; ++j)
      each_lane<C>(
          [&](int l) { x[j][l] = x[j][l] == -kInfinity<C> ? C(0) : portable_sigmoid(x[j][l]); });
    return;
  }
  // topk_softmax and softmax_topk_renorm are one function: the sum over all experts cancels.
  const auto over = a.form == GateForm::softmax_topk ? all : Normaliser<C>(x, a.k);
  for (int j = 0; j < a.k; ++j)
    each_lane<C>([&](int l) { x[j][l] = over.probability(x[j][l], l); });
}

// Tokens [from, to), at most as many as there are lanes; the lanes beyond repeat the last token.
template <class T>
void gate_tokens(const TopkGate& a, int64_t from, int64_t to, const Scratch<compute_t<T>>& s) {
  using C = compute_t<T>;
  for (int l = 0; l < kLanes<C>; ++l) load_token<T>(a, std::min(from + l, to - 1), l, s.logits);
  const Normaliser<C> all(s.logits, a.num_experts);
  score_experts(a, s);
  Lanes<C> margin;
  margin.fill(kInfinity<C>);
  if (a.groups.kept < a.groups.count) keep_best_groups(a, s, margin);
  const auto &keys = s.best.keys, &experts = s.best.indices;
  const int k = a.k, eligible = a.num_experts / a.groups.count * a.groups.kept;
  select_best(s.keys, a.num_experts, std::min(k + 1, eligible), s.best);
  if (k < eligible)
    each_lane<C>([&](int l) {
      const C last = score_of<C>(keys[k][l]), next = score_of<C>(keys[k + 1][l]);
      margin[l] = std::min(margin[l], last == next ? C(0) : last - next);
    });
  for (int j = 0; j < k; ++j)
    for (int l = 0; l < kLanes<C>; ++l) s.weights[j][l] = s.logits[experts[j + 1][l]][l];
  weigh(a, all, s.weights);
  for (int l = 0; l < static_cast<int>(to - from); ++l) {
    const int64_t token = from + l;
    for (int j = 0; j < k; ++j) {
      a.experts[token * k + j] = static_cast<int32_t>(experts[j + 1][l]);
      static_cast<C*>(a.weights)[token * k + j] = s.weights[j][l];
    }
    static_cast<C*>(a.margin)[token] = margin[l];
    static_cast<C*>(a.log_sum_exp)[token] = all.log_sum_exp(l);
  }
}

void count_choices(const TopkGate& a) {
  const TokenPieces pieces = token_pieces(a.tokens);
  std::fill_n(a.counts, int64_t{pieces.count} * a.num_experts, 0);
  for (int64_t token = 0; token < a.tokens; ++token) {
    int32_t* counts = a.counts + token / pieces.each * a.num_experts;
    for (int j = 0; j < a.k; ++j) ++counts[a.experts[token * a.k + j]];
  }
}

}  // namespace

size_t topk_gate_workspace(Cpu, const TopkGate& a) {
  return static_cast<size_t>(num_blocks(a) * scratch_bytes(a));
}

Status topk_gate(Cpu on, const TopkGate& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < topk_gate_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    constexpr int64_t lanes = kLanes<C>;
    const int64_t blocks = num_blocks(a), steps = (a.tokens + lanes - 1) / lanes;
    parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const Scratch<C> scratch(static_cast<char*>(on.workspace) + block * scratch_bytes(a), a);
        const int64_t end = steps * (block + 1) / blocks;
        for (int64_t step = steps * block / blocks; step < end; ++step)
          gate_tokens<T>(a, step * lanes, std::min<int64_t>((step + 1) * lanes, a.tokens), scratch);
      }
    });
    if (a.counts) count_choices(a);
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
    C max = -kInfinity<C>;
    double total = 0;
    for (int i = 0; i < n; ++i) max = std::max(max, logit(i));
    for (int i = 0; i < n; ++i) total += relative_exp(logit(i), max);
    for (int i = 0; i < n; ++i)
      d_logits[i] = T(static_cast<C>(-(relative_exp(logit(i), max) / total) * sum));
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
