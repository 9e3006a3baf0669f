#include "engine/ops/routing.h"

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "engine/tape.h"
#include "kernels/routing/combine_rows.h"
#include "kernels/routing/dispatch_rows.h"
#include "kernels/routing/routing_index.h"

namespace moat::engine {

namespace {

// weights undefined: every one is 1.
Tensor combined(const Tensor& rows, const Tensor& weights, const Routing& routing) {
  const Tensor y =
      Tensor::empty({routing.slot_of.dim(0), rows.dim(1)}, rows.dtype(), rows.device());
  dispatch(common_device({rows, weights, routing.slot_of}), [&](auto on) {
    return kernels::combine_rows(on, {.rows = rows.data(),
                                      .weights = weights.data(),
                                      .slot_of = routing.slot_of.data_as<int32_t>(),
                                      .y = y.data(),
                                      .tokens = to_int(routing.slot_of.dim(0)),
                                      .k = to_int(routing.slot_of.dim(1)),
                                      .row_count = to_int(rows.dim(0)),
                                      .width = rows.dim(1),
                                      .dtype = rows.dtype()});
  });
  return y;
}

}  // namespace

void require_rows(const char* op, const char* name, const Tensor& x, int64_t rows) {
  require(x.defined() && x.rank() == 2 && is_floating(x.dtype()) && x.dim(0) == rows, [&] {
    return text(op, ": ", name, " must be floating [", rows, ", width] for this routing, got ",
                described(x));
  });
}

void require_routing(const char* op, const Routing& routing) {
  require(routing.slot_of.defined() && routing.row_token.defined(),
          [&] { return text(op, ": the routing is empty; route_tokens() makes one"); });
}

void require_experts(const char* op, const Tensor& experts, int rank, int64_t num_experts) {
  require(experts.defined() && experts.dtype() == Dtype::i32 && experts.rank() == rank, [&] {
    return text(op, ": experts must be int32 ", rank == 1 ? "[tokens]" : "[tokens, k]", ", got ",
                described(experts));
  });
  if (!experts.device().is_cpu()) return;  // the kernels skip what is out of range
  const std::vector<int32_t> values = experts.to_vector<int32_t>();
  for (size_t i = 0; i < values.size(); ++i)
    require(values[i] >= 0 && values[i] < num_experts, [&] {
      return text(op, ": experts must be in [0, ", num_experts, "), got ", values[i], " in row ",
                  static_cast<int64_t>(i) / (rank == 1 ? 1 : experts.dim(1)));
    });
}

Routing route_tokens(const Tensor& experts, int num_experts, const RoutingOptions& options) {
  require(num_experts >= 1 && options.capacity >= 0, [&] {
    return text("route_tokens: needs an expert or more and a capacity of 0 (unlimited) or more, ",
                "got ", num_experts, " and ", options.capacity);
  });
  require_experts("route_tokens", experts, 2, num_experts);
  const Tensor& priority = options.priority;
  require(!priority.defined() ||
              (is_floating(priority.dtype()) && priority.shape() == Shape{experts.dim(0)}),
          [&] {
            return text("route_tokens: priority must be floating [", experts.dim(0), "], got ",
                        described(priority));
          });
  const Tensor chosen = experts.contiguous(), order = priority.contiguous();
  const Device device = common_device({chosen, order});
  Routing routing{.offsets = Tensor::empty({num_experts + 1}, Dtype::i32, device),
                  .row_token = Tensor::empty({chosen.size()}, Dtype::i32, device),
                  .slot_of = Tensor::empty(chosen.shape(), Dtype::i32, device)};
  const kernels::RoutingIndex args{.experts = chosen.data_as<int32_t>(),
                                   .priority = order.data(),
                                   .offsets = routing.offsets.data_as<int32_t>(),
                                   .row_token = routing.row_token.data_as<int32_t>(),
                                   .slot_of = routing.slot_of.data_as<int32_t>(),
                                   .tokens = to_int(chosen.dim(0)),
                                   .k = to_int(chosen.dim(1)),
                                   .num_experts = num_experts,
                                   .capacity = options.capacity,
                                   .priority_dtype = order.defined() ? order.dtype() : Dtype::f32};
  dispatch(
      device, [&](auto on) { return kernels::routing_index_workspace(on, args); },
      [&](auto on) { return kernels::routing_index(on, args); });
  return routing;
}

Tensor sum_choices(const Tensor& rows, const Routing& routing) {
  return combined(rows, {}, routing);
}

Tensor dispatch_rows(const Tensor& x, const Routing& routing) {
  require_routing("dispatch_rows", routing);
  require_rows("dispatch_rows", "x", x, routing.slot_of.dim(0));
  const Tensor tokens = x.contiguous();
  const Tensor y = Tensor::empty({routing.row_token.size(), x.dim(1)}, x.dtype(), x.device());
  dispatch(common_device({x, routing.row_token}), [&](auto on) {
    return kernels::dispatch_rows(on, {.x = tokens.data(),
                                       .row_token = routing.row_token.data_as<int32_t>(),
                                       .y = y.data(),
                                       .tokens = to_int(tokens.dim(0)),
                                       .rows = to_int(y.dim(0)),
                                       .width = tokens.dim(1),
                                       .dtype = tokens.dtype()});
  });
  return recorded("dispatch_rows", {x}, y, [routing](const Tensors& d, const Needs&) -> Tensors {
    return {sum_choices(d[0].contiguous(), routing)};
  });
}

Tensor combine_rows(const Tensor& rows, const Tensor& weights, const Routing& routing) {
  require_routing("combine_rows", routing);
  require_rows("combine_rows", "rows", rows, routing.row_token.size());
  require(weights.defined() && weights.shape() == routing.slot_of.shape() &&
              weights.dtype() == master_of(rows.dtype()),
          [&] {
            return text("combine_rows: weights must be ", name_of(master_of(rows.dtype())), " ",
                        routing.slot_of.shape().str(), ", got ", described(weights));
          });
  const Tensor r = rows.contiguous(), w = weights.contiguous();
  const Tensor saved_rows = is_differentiated(weights) ? r : Tensor{};
  return recorded("combine_rows", {rows, weights}, combined(r, w, routing),
                  [saved_rows, w, routing, shape = r.shape()](const Tensors& d_outputs,
                                                              const Needs& needs) -> Tensors {
                    const Tensor d_y = d_outputs[0].contiguous();
                    Tensor d_rows, d_weights;
                    if (needs[0]) d_rows = Tensor::empty(shape, d_y.dtype(), d_y.device());
                    if (needs[1]) d_weights = Tensor::empty(w.shape(), w.dtype(), w.device());
                    dispatch(d_y.device(), [&](auto on) {
                      return kernels::combine_rows_grad(
                          on, {.d_y = d_y.data(),
                               .rows = saved_rows.data(),
                               .weights = w.data(),
                               .slot_of = routing.slot_of.data_as<int32_t>(),
                               .d_rows = d_rows.data(),
                               .d_weights = d_weights.data(),
                               .tokens = to_int(d_y.dim(0)),
                               .k = to_int(w.dim(1)),
                               .row_count = to_int(shape[0]),
                               .width = shape[1],
                               .dtype = d_y.dtype()});
                    });
                    return {d_rows, d_weights};
                  });
}

}  // namespace moat::engine
