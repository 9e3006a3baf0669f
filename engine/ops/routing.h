#pragma once

#include "engine/tensor.h"

namespace moat::engine {

// Which rows of a batch sorted by expert belong to which choice of which token. All on the device:
// the number of rows is tokens · k whatever was dropped.
struct Routing {
  Tensor offsets;    // int32 [experts + 1]: rows of expert e are offsets[e] .. offsets[e + 1]
  Tensor row_token;  // int32 [tokens · k]: token of a row, -1 from offsets[experts] on
  Tensor slot_of;    // int32 [tokens, k]: row of a choice, -1 when it was dropped
};

struct RoutingOptions {
  int capacity = 0;      // choices per expert; 0: unlimited
  Tensor priority = {};  // [tokens]: whose choices are placed first (Batch Prioritized Routing,
                         // Riquelme et al. 2021, section 3); undefined: in order
};
// experts int32 [tokens, k], best choice first, values in [0, num_experts); see
// kernels/routing/routing_index.h for the order and the victims of a capacity.
Routing route_tokens(const Tensor& experts, int num_experts, const RoutingOptions& options = {});

// Throws unless experts is int32 of this rank with values in [0, num_experts).
void require_experts(const char* op, const Tensor& experts, int rank, int64_t num_experts);

// Throws unless there is a routing, and x is floating [rows, width].
void require_routing(const char* op, const Routing& routing);
void require_rows(const char* op, const char* name, const Tensor& x, int64_t rows);

// x [tokens, width] -> [tokens · k, width], the rows of each expert side by side; rows that no
// choice has are zero.
Tensor dispatch_rows(const Tensor& x, const Routing& routing);

// The sum over a token's choices, best first: the gradient of dispatch_rows. Not recorded.
Tensor sum_choices(const Tensor& rows, const Routing& routing);

// rows [tokens · k, width], weights [tokens, k] (float32 for bfloat16 rows) -> [tokens, width]:
// the weighted sum over a token's choices, best first; a dropped one adds nothing. Differentiable
// with respect to both.
Tensor combine_rows(const Tensor& rows, const Tensor& weights, const Routing& routing);

}  // namespace moat::engine
