#include "kernels/gate/straight_through_gate.h"

#include <algorithm>

#include "kernels/index_range.h"
#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

Status straight_through_gate_grad(Cpu, const StraightThroughGateGrad& a) {
  if (a.tokens < 0 || a.num_experts < 1) return Status::bad_args;
  if (!indices_in_range(a.experts, a.tokens, a.num_experts)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.tokens, row_grain(a.num_experts), [&](int64_t from, int64_t to) {
      for (int64_t token = from; token < to; ++token) {
        const T* scores = static_cast<const T*>(a.scores) + token * a.num_experts;
        T* d_scores = static_cast<T*>(a.d_scores) + token * a.num_experts;
        const T d = static_cast<const T*>(a.d_gate)[token];
        const int expert = a.experts[token];
        if (a.form == StraightThrough::raw) {
          std::fill(d_scores, d_scores + a.num_experts, T(C{0}));
          d_scores[expert] = d;
          continue;
        }
        const auto s = row_softmax<double>(scores, a.num_experts);
        const double slope = C(d) * s.probability(scores[expert]);
        for (int i = 0; i < a.num_experts; ++i) {
          const double share = i == expert ? s.others(scores[i], i) : -s.probability(scores[i]);
          d_scores[i] = T(static_cast<C>(slope * share));
        }
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
