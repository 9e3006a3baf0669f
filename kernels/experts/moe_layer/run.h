#pragma once

#include "kernels/experts/moe_layer/backward.h"
#include "kernels/experts/moe_layer/forward.h"

namespace moat::kernels::layer {

inline bool is_valid(const MoeLayer& a) { return has_valid_extents(a) && a.capacity >= 0; }
inline bool is_valid(const MoeLayerGrad& a) {
  return has_valid_extents(a) && (a.d_w_in || !a.d_b_in) && (a.d_w_out || !a.d_b_out);
}

template <class On>
auto pass(On on, const MoeLayer& a) {
  return Forward<On>(on, a);
}
template <class On>
auto pass(On on, const MoeLayerGrad& a) {
  return Backward<On>(on, a);
}

template <class On, class Layer>
size_t workspace(On on, const Layer& a) {
  return is_valid(a) ? pass(with_workspace(on, nullptr, 0), a).workspace() : 0;
}

// Refuses what cannot work before the first kernel writes anything.
template <class On, class Layer>
Status run(On on, const Layer& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < workspace(on, a)) return Status::small_workspace;
  return pass(on, a).run();
}

}  // namespace moat::kernels::layer
