#include "engine/ops/experts.h"

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "engine/tape.h"
#include "kernels/experts/grouped_gemm.h"

namespace moat::engine {

namespace {

using kernels::Transpose;

const int32_t* gather_index(const Routing& routing, Rows rows) {
  return rows == Rows::gathered ? routing.row_token.data_as<int32_t>() : nullptr;
}

Tensor product(const Tensor& x, const Tensor& w, Transpose transpose_w, const Tensor& bias,
               const Routing& routing, Rows rows) {
  const int64_t n = w.dim(transpose_w == Transpose::yes ? 1 : 2);
  const Tensor y = Tensor::empty({routing.row_token.size(), n}, x.dtype(), x.device());
  const kernels::GroupedGemm args{.x = x.data(),
                                  .row_token = gather_index(routing, rows),
                                  .w = w.data(),
                                  .bias = bias.data(),
                                  .offsets = routing.offsets.data_as<int32_t>(),
                                  .y = y.data(),
                                  .rows = to_int(y.dim(0)),
                                  .x_rows = to_int(x.dim(0)),
                                  .experts = to_int(w.dim(0)),
                                  .n = to_int(n),
                                  .k = to_int(x.dim(1)),
                                  .transpose_w = transpose_w,
                                  .dtype = x.dtype()};
  dispatch(
      common_device({x, w, bias, routing.row_token, routing.offsets}),
      [&](auto on) { return kernels::grouped_gemm_workspace(on, args); },
      [&](auto on) { return kernels::grouped_gemm(on, args); });
  return y;
}

struct WeightGrads {
  Tensor w, bias;
};
WeightGrads weight_grads(const Tensor& x, const Tensor& d_y, int64_t experts, bool wants_bias,
                         const Routing& routing, Rows rows) {
  const Dtype dtype = master_of(x.dtype());
  WeightGrads out{Tensor::empty({experts, d_y.dim(1), x.dim(1)}, dtype, x.device()), {}};
  if (wants_bias) out.bias = Tensor::empty({experts, d_y.dim(1)}, dtype, x.device());
  const kernels::GroupedGemmWeightGrad args{.x = x.data(),
                                            .row_token = gather_index(routing, rows),
                                            .d_y = d_y.data(),
                                            .offsets = routing.offsets.data_as<int32_t>(),
                                            .d_w = out.w.data(),
                                            .d_bias = out.bias.data(),
                                            .rows = to_int(d_y.dim(0)),
                                            .x_rows = to_int(x.dim(0)),
                                            .experts = to_int(experts),
                                            .n = to_int(d_y.dim(1)),
                                            .k = to_int(x.dim(1)),
                                            .dtype = x.dtype()};
  dispatch(
      x.device(), [&](auto on) { return kernels::grouped_gemm_weight_grad_workspace(on, args); },
      [&](auto on) { return kernels::grouped_gemm_weight_grad(on, args); });
  return out;
}

void require_operands(const Tensor& x, const Tensor& w, const Tensor& bias, const Routing& routing,
                      Rows rows) {
  require_routing("grouped_gemm", routing);
  const int64_t expected =
      rows == Rows::gathered ? routing.slot_of.dim(0) : routing.row_token.size();
  require_rows("grouped_gemm", "x", x, expected);
  const Dtype dtype = master_of(x.dtype());
  const Shape shape{routing.offsets.size() - 1, w.rank() == 3 ? w.dim(1) : 0, x.dim(1)};
  require(w.defined() && w.shape() == shape && w.dtype() == dtype, [&] {
    return text("grouped_gemm: w must be ", name_of(dtype), " [", shape[0], ", n, ", shape[2],
                "], got ", described(w));
  });
  require(!bias.defined() || (bias.shape() == Shape{shape[0], shape[1]} && bias.dtype() == dtype),
          [&] {
            return text("grouped_gemm: bias must be ", name_of(dtype), " [", shape[0], ", ",
                        shape[1], "], got ", described(bias));
          });
}

}  // namespace

Tensor grouped_gemm(const Tensor& x, const Tensor& w, const Tensor& bias, const Routing& routing,
                    Rows rows) {
  require_operands(x, w, bias, routing, rows);
  const Tensor input = x.contiguous(), weights = w.detached().to(x.dtype()).contiguous(),
               offset = bias.contiguous();
  const Tensor y = product(input, weights, Transpose::yes, offset, routing, rows);
  const Tensor saved_x = is_differentiated(w) || is_differentiated(bias) ? input : Tensor{},
               saved_w = is_differentiated(x) ? weights : Tensor{};
  return recorded("grouped_gemm", {x, w, bias}, y,
                  [saved_x, saved_w, experts = w.dim(0), routing, rows](
                      const Tensors& d_outputs, const Needs& needs) -> Tensors {
                    const Tensor d_y = d_outputs[0].contiguous();
                    Tensor d_x;
                    if (needs[0]) {
                      d_x = product(d_y, saved_w, Transpose::no, {}, routing, Rows::sorted);
                      if (rows == Rows::gathered) d_x = sum_choices(d_x, routing);
                    }
                    if (!needs[1] && !needs[2]) return {d_x, {}, {}};
                    const WeightGrads grads =
                        weight_grads(saved_x, d_y, experts, needs[2], routing, rows);
                    return {d_x, grads.w, grads.bias};
                  });
}

Tensor expert_activation(const Tensor& pre, ExpertActivation activation) {
  require(pre.defined() && pre.rank() == 2 && is_floating(pre.dtype()), [&] {
    return text("expert_activation: pre must be floating [rows, width], got ", described(pre));
  });
  require(activation != ExpertActivation::swiglu || pre.dim(1) % 2 == 0, [&] {
    return text("expert_activation: swiglu halves the width, which must be even, got ", pre.dim(1));
  });
  const Tensor x = pre.contiguous();
  const int width = to_int(x.dim(1));
  const Tensor y =
      Tensor::empty({x.dim(0), kernels::activated_width(activation, width)}, x.dtype(), x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::expert_activation(on, {.pre = x.data(),
                                           .y = y.data(),
                                           .rows = to_int(x.dim(0)),
                                           .width = width,
                                           .activation = activation,
                                           .dtype = x.dtype()});
  });
  return recorded("expert_activation", {pre}, y,
                  [x, activation](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_y = d_outputs[0].contiguous(),
                                 d_x = Tensor::empty(x.shape(), x.dtype(), x.device());
                    dispatch(x.device(), [&](auto on) {
                      return kernels::expert_activation_grad(on, {.d_y = d_y.data(),
                                                                  .pre = x.data(),
                                                                  .d_pre = d_x.data(),
                                                                  .rows = to_int(x.dim(0)),
                                                                  .width = to_int(x.dim(1)),
                                                                  .activation = activation,
                                                                  .dtype = x.dtype()});
                    });
                    return {d_x};
                  });
}

}  // namespace moat::engine
