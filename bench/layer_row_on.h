#pragma once

// What is run and counted for each Work, for the two targets of layer_data_on.h.

#include <algorithm>

#include "bench/layer_data.h"

namespace moat::bench {

template <class On>
Row LayerData<On>::row(Work work) {
  const double tokens = tokens_, rows = rows_, experts = shape_.experts, width = width_,
               hidden = hidden_, inner = inner_, k = shape_.k;
  const auto size = static_cast<double>(kernels::size_of(dtype_)),
             master_size = static_cast<double>(kernels::size_of(master_)),
             gate_size = static_cast<double>(kernels::size_of(gate_dtype_));
  const double gate_bytes =
                   tokens * (experts * gate_size + k * (4 + master_size) + 2 * master_size),
               index_bytes = 12 * rows + 4 * (experts + 1),
               dispatch_bytes = size * (tokens + rows) * width + 4 * rows,
               combine_bytes = dispatch_bytes + master_size * rows,
               in_weights = experts * inner * width, out_weights = experts * width * hidden,
               in_flops = 2 * rows * width * inner, out_flops = 2 * rows * width * hidden;
  const auto with = [&](size_t bytes, auto&& run) {
    return [on = scratch(bytes), run] { return run(on); };
  };
  switch (work) {
    case Work::gate:
      return {with(topk_gate_workspace(on_, gate()),
                   [this](On on) { return kernels::topk_gate(on, gate()); }),
              gate_bytes, 0};
    case Work::routing:
      return {with(routing_index_workspace(on_, routing()),
                   [this](On on) { return kernels::routing_index(on, routing()); }),
              index_bytes, 0};
    case Work::dispatch:
      return {with(0, [this](On on) { return kernels::dispatch_rows(on, dispatch()); }),
              dispatch_bytes, 0};
    case Work::combine:
      return {with(0, [this](On on) { return kernels::combine_rows(on, combine()); }),
              combine_bytes, 2 * rows * width};
    case Work::route:
    case Work::route_on_load: {
      const bool dispatches = work == Work::route;
      return {
          with(std::max(topk_gate_workspace(on_, gate()), routing_index_workspace(on_, routing())),
               [this, dispatches](On on) {
                 using kernels::Status;
                 Status status = kernels::topk_gate(on, gate());
                 if (status == Status::ok) status = kernels::routing_index(on, routing());
                 if (status == Status::ok && dispatches)
                   status = kernels::dispatch_rows(on, dispatch());
                 if (status == Status::ok) status = kernels::combine_rows(on, combine());
                 return status;
               }),
          gate_bytes + index_bytes + (dispatches ? dispatch_bytes : 0) + combine_bytes,
          2 * rows * width};
    }
    case Work::product_in:
      return {with(grouped_gemm_workspace(on_, product_in()),
                   [this](On on) { return kernels::grouped_gemm(on, product_in()); }),
              size * (tokens * width + in_weights + rows * hidden), in_flops};
    case Work::product_out:
      return {with(grouped_gemm_workspace(on_, product_out()),
                   [this](On on) { return kernels::grouped_gemm(on, product_out()); }),
              size * (rows * hidden + out_weights + rows * width), out_flops};
    case Work::input_grad:
      return {with(grouped_gemm_workspace(on_, input_grad()),
                   [this](On on) { return kernels::grouped_gemm(on, input_grad()); }),
              size * (rows * inner + in_weights + rows * width), in_flops};
    case Work::weight_grad:
      return {with(grouped_gemm_weight_grad_workspace(on_, weight_grad()),
                   [this](On on) { return kernels::grouped_gemm_weight_grad(on, weight_grad()); }),
              size * (tokens * width + rows * inner) + master_size * in_weights, in_flops};
    default:
      break;
  }
  // What the whole layer reads and writes at least, its saved tensors included.
  const double saved = size * rows * (inner + width), weights = in_weights + out_weights;
  if (work == Work::forward)
    return {with(moe_layer_workspace(on_, forward()),
                 [this](On on) { return kernels::moe_layer(on, forward()); }),
            gate_bytes + size * (2 * tokens * width + weights) + saved, in_flops + out_flops};
  const bool with_weights = work == Work::backward;
  return {with(moe_layer_grad_workspace(on_, backward(with_weights)),
               [this, with_weights](On on) {
                 return kernels::moe_layer_grad(on, backward(with_weights));
               }),
          gate_bytes + size * (2 * tokens * width + weights) + saved +
              (with_weights ? size * tokens * width + master_size * weights : 0),
          (with_weights ? 2 : 1) * (in_flops + out_flops)};
}

}  // namespace moat::bench
