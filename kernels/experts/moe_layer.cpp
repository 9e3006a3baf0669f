#include "kernels/experts/moe_layer.h"

#include "kernels/experts/moe_layer/run.h"
#include "kernels/index_range.h"
#include "kernels/segments.h"

namespace moat::kernels {

namespace {

// What the steps of the backward pass ask of their indices, before the first one writes anything.
// The forward pass makes its own.
bool indices_hold(const MoeLayerGrad& a) {
  const int rows = layer::rows_of(a);
  const bool through_rows = a.d_x || a.d_w_in || a.d_w_out;
  if (a.d_logits && !indices_in_range(a.experts, rows, a.num_experts)) return false;
  if (through_rows && !(are_segments(a.offsets, a.num_experts) && a.offsets[a.num_experts] <= rows))
    return false;
  if (a.d_w_in && !indices_in_range(a.row_token, a.offsets[a.num_experts], a.tokens)) return false;
  return !(a.d_logits || through_rows) || indices_in_range(a.slot_of, rows, rows, -1);
}

}  // namespace

size_t moe_layer_workspace(Cpu on, const MoeLayer& a) { return layer::workspace(on, a); }
Status moe_layer(Cpu on, const MoeLayer& a) { return layer::run(on, a); }

size_t moe_layer_grad_workspace(Cpu on, const MoeLayerGrad& a) { return layer::workspace(on, a); }
Status moe_layer_grad(Cpu on, const MoeLayerGrad& a) {
  if (!layer::is_valid(a) || !indices_hold(a)) return Status::bad_args;
  return layer::run(on, a);
}

}  // namespace moat::kernels
