#pragma once

#include <algorithm>

#include "kernels/experts/moe_layer/steps.h"
#include "kernels/routing/combine_rows.h"
#include "kernels/routing/routing_index.h"

namespace moat::kernels::layer {

// moe_layer's kernels and the workspace they share: what they leave to the next ones lies in front,
// each one's scratch memory behind it.
template <class On>
class Forward {
 public:
  Forward(On on, const MoeLayer& a) : on_(on), a_(a) {
    Cut cut(on.workspace);
    hidden_ = cut.take(bytes_of(rows_of(a), hidden_of(a), a.dtype));
    rows_ = a.rows ? a.rows : cut.take(bytes_of(rows_of(a), a.out_width, a.dtype));
    if (a.capacity == 0)
      counts_ = cut.take(bytes_of(token_pieces(a.tokens).count, a.num_experts, Dtype::i32));
    used_ = cut.used();
  }

  size_t workspace() const {
    return used_ +
           std::max({topk_gate_workspace(on_, gate()), routing_index_workspace(on_, routing()),
                     grouped_gemm_workspace(on_, in()), grouped_gemm_workspace(on_, out())});
  }

  Status run() const {
    const On on =
        with_workspace(on_, static_cast<char*>(on_.workspace) + used_, on_.workspace_bytes - used_);
    return in_order([&] { return topk_gate(on, gate()); },
                    [&] { return routing_index(on, routing()); },
                    [&] { return grouped_gemm(on, in()); }, [&] { return grouped_gemm(on, out()); },
                    [&] { return combine_rows(on, combine()); });
  }

 private:
  TopkGate gate() const {
    return {.logits = a_.logits,
            .bias = a_.gate_bias,
            .weights = a_.weights,
            .experts = a_.experts,
            .log_sum_exp = a_.log_sum_exp,
            .margin = a_.margin,
            .tokens = a_.tokens,
            .num_experts = a_.num_experts,
            .k = a_.k,
            .form = a_.form,
            .dtype = a_.gate_dtype,
            .noise = a_.noise,
            .noisy_logits = a_.noisy_logits,
            .groups = a_.groups,
            .counts = static_cast<int32_t*>(counts_)};
  }
  RoutingIndex routing() const {
    return {.experts = a_.experts,
            .priority = a_.priority,
            .offsets = a_.offsets,
            .row_token = a_.row_token,
            .slot_of = a_.slot_of,
            .tokens = a_.tokens,
            .k = a_.k,
            .num_experts = a_.num_experts,
            .capacity = a_.capacity,
            .priority_dtype = a_.gate_dtype,
            .counts = static_cast<const int32_t*>(counts_)};
  }
  GroupedGemm in() const {
    return {.x = a_.x,
            .row_token = a_.row_token,
            .w = a_.w_in,
            .bias = a_.b_in,
            .offsets = a_.offsets,
            .y = hidden_,
            .rows = rows_of(a_),
            .x_rows = a_.tokens,
            .experts = a_.num_experts,
            .n = a_.inner,
            .k = a_.width,
            .transpose_w = Transpose::yes,
            .dtype = a_.dtype,
            .activation = a_.activation,
            .pre = a_.pre,
            .precision = a_.precision};
  }
  GroupedGemm out() const {
    return {.x = hidden_,
            .row_token = nullptr,
            .w = a_.w_out,
            .bias = a_.b_out,
            .offsets = a_.offsets,
            .y = rows_,
            .rows = rows_of(a_),
            .x_rows = rows_of(a_),
            .experts = a_.num_experts,
            .n = a_.out_width,
            .k = hidden_of(a_),
            .transpose_w = Transpose::yes,
            .dtype = a_.dtype,
            .precision = a_.precision};
  }
  CombineRows combine() const {
    return {.rows = rows_,
            .weights = a_.weights,
            .slot_of = a_.slot_of,
            .y = a_.y,
            .tokens = a_.tokens,
            .k = a_.k,
            .row_count = rows_of(a_),
            .width = a_.out_width,
            .dtype = a_.dtype};
  }

  On on_;
  const MoeLayer& a_;
  void *hidden_, *rows_;
  void* counts_ = nullptr;  // of the gate's choices, where no capacity can drop one
  size_t used_;
};

}  // namespace moat::kernels::layer
