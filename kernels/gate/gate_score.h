#pragma once

// What the gate computes with before it selects, shared by all targets so that identical logits
// give identical integers. The noise is a normal draw: files that include this header are compiled
// with contraction off, as philox.h asks.

#include <array>
#include <cstdint>
#include <limits>

#include "kernels/basic/philox.h"
#include "kernels/gate/sigmoid.h"
#include "kernels/gate/topk_gate.h"

namespace moat::kernels {

template <class C>
inline constexpr C kInfinity = std::numeric_limits<C>::infinity();

// A logit as the gate sees it: NaN counts as -inf.
template <class C>
constexpr C without_nan(C x) {
  return x == x ? x : -kInfinity<C>;
}

// The noise of experts 2·pair and 2·pair + 1, as random() draws it for one row of experts.
template <class C>
constexpr std::array<C, 2> noise_of_pair(const GateNoise& a, int64_t token, int pair) {
  const auto sample = static_cast<uint32_t>(a.samples ? a.samples[token] : token);
  const PhiloxBlock bits = philox(
      {static_cast<uint32_t>(pair / 2), sample, a.iteration, a.purpose << 24 | a.stream}, a.seed);
  const auto z = pair % 2 == 0 ? normal_pair(bits[0], bits[1]) : normal_pair(bits[2], bits[3]);
  return {static_cast<C>(a.deviation * z[0]), static_cast<C>(a.deviation * z[1])};
}

// What selection compares; x is the (noisy) logit, not NaN. The score of -inf is -inf.
template <class C>
constexpr C selection_score(GateForm form, C x, C bias) {
  if (form != GateForm::sigmoid_topk || x == -kInfinity<C>) return x;
  return without_nan(portable_sigmoid(x) + bias);
}

// The score of a group from its two largest: an excluded expert (-inf) adds nothing to a sum.
template <class C>
constexpr C group_score(GroupScore form, C first, C second) {
  return form == GroupScore::largest || second == -kInfinity<C> ? first : first + second;
}

// How far two scores of groups are apart, in units of one expert's score.
template <class C>
constexpr C group_margin(GroupScore form, C last, C next) {
  if (last == next) return C(0);
  return form == GroupScore::largest ? last - next : (last - next) / 2;
}

}  // namespace moat::kernels
