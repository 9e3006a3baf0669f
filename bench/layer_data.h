#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/blocks.h"
#include "bench/layer_shapes.h"
#include "bench/row.h"
#include "kernels/experts/moe_layer.h"
#include "kernels/gate/topk_gate.h"
#include "kernels/routing/combine_rows.h"
#include "kernels/routing/dispatch_rows.h"
#include "kernels/routing/routing_index.h"

namespace moat::bench {

using kernels::Dtype;

// How the tokens spread over the experts: each as likely as the others, or the e-th, from 1, with
// probability proportional to 1 / e.
enum class Load { balanced, zipf };

// What is measured of one layer.
enum class Work {
  gate,
  routing,
  dispatch,
  combine,
  route,          // the four above in turn
  route_on_load,  // without dispatch: as in a layer, whose product gathers its rows
  product_in,
  product_out,
  input_grad,   // of product_in
  weight_grad,  // of product_in
  forward,
  backward,
  input_backward,  // the gradients of tokens and logits, not those of the experts' weights
};
const char* name_of(Work work);
const char* name_of(Load load);
std::vector<Work> works_of(Parts parts, Load load);  // a gate does not depend on the load

// Logits whose k largest are k draws without replacement from the load's distribution: its
// logarithm plus Gumbel noise.
std::vector<float> logits_of(const LayerShape& shape, Load load);

// One layer's tensors on the target, and the work on them. Weights, tokens and gradients are N(0,
// 1), the same under every load.
template <class On>
class LayerData {
 public:
  LayerData(Workbench& bench, On on, const LayerShape& shape, Dtype dtype,
            const NormalValues& normals);
  LayerData(const LayerData&) = delete;
  LayerData& operator=(const LayerData&) = delete;

  void route(Load load);  // before rows are asked for

  Row row(Work work);  // good until the next one is asked for

 private:
  void* block(double elements, Dtype dtype) { return blocks_.block(elements, dtype); }
  void* normal_block(double elements, Dtype dtype) { return blocks_.normal_block(elements, dtype); }
  On scratch(size_t bytes) { return blocks_.with_workspace(on_, bytes); }

  kernels::TopkGate gate() const;
  kernels::RoutingIndex routing() const;
  kernels::DispatchRows dispatch() const;
  kernels::CombineRows combine() const;
  kernels::GroupedGemm product_in() const;
  kernels::GroupedGemm product_out() const;
  kernels::GroupedGemm input_grad() const;
  kernels::GroupedGemmWeightGrad weight_grad() const;
  kernels::MoeLayer forward() const;
  kernels::MoeLayerGrad backward(bool with_weights) const;

  Blocks blocks_;
  On on_;
  LayerShape shape_;
  Dtype dtype_, master_, gate_dtype_;
  int tokens_, rows_, width_, hidden_, inner_;

  void *logits_, *weights_, *log_sum_exp_, *margin_;
  int32_t *experts_, *offsets_, *row_token_, *slot_of_;
  void *x_ = nullptr, *y_ = nullptr, *sorted_ = nullptr;
  void *w_in_ = nullptr, *b_in_ = nullptr, *w_out_ = nullptr, *b_out_ = nullptr;
  void *pre_ = nullptr, *hidden_rows_ = nullptr, *out_rows_ = nullptr, *d_pre_ = nullptr;
  void *d_y_ = nullptr, *d_x_ = nullptr, *d_logits_ = nullptr;
  void *d_w_in_ = nullptr, *d_b_in_ = nullptr, *d_w_out_ = nullptr, *d_b_out_ = nullptr;
};

}  // namespace moat::bench
