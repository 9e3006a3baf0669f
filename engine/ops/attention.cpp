#include "engine/ops/attention.h"

#include "engine/dispatch.h"
#include "engine/tape.h"
#include "kernels/attention/attention.h"

namespace moat::engine {

namespace {

// What the gradient is computed from.
struct Saved {
  Tensor qkv, y, log_sum_exp;
};

Tensor attention_grad(const Saved& s, const Tensor& d_y_any) {
  const Tensor d_y = d_y_any.contiguous(),
               d_qkv = Tensor::empty(s.qkv.shape(), s.qkv.dtype(), s.qkv.device());
  const int64_t heads = s.log_sum_exp.dim(1);
  const kernels::AttentionGrad args{.qkv = s.qkv.data(),
                                    .y = s.y.data(),
                                    .log_sum_exp = s.log_sum_exp.data(),
                                    .d_y = d_y.data(),
                                    .d_qkv = d_qkv.data(),
                                    .batch = to_int(s.qkv.dim(0)),
                                    .tokens = to_int(s.qkv.dim(1)),
                                    .heads = to_int(heads),
                                    .head_width = to_int(s.y.dim(2) / heads),
                                    .dtype = s.qkv.dtype()};
  dispatch(
      s.qkv.device(), [&](auto on) { return kernels::attention_grad_workspace(on, args); },
      [&](auto on) { return kernels::attention_grad(on, args); });
  return d_qkv;
}

}  // namespace

Tensor attention(const Tensor& qkv_any, int heads) {
  require(qkv_any.rank() == 3 && is_floating(qkv_any.dtype()), [&] {
    return text(
        "attention: qkv must be floating-point [batch, tokens, 3 x heads x head_width], got ",
        name_of(qkv_any.dtype()), " ", qkv_any.shape().str());
  });
  require(heads >= 1, [&] { return text("attention: heads must be at least 1, got ", heads); });
  const int64_t batch = qkv_any.dim(0), tokens = qkv_any.dim(1), values = qkv_any.dim(2),
                head_width = values / (int64_t{3} * heads);
  require(values == int64_t{3} * heads * head_width && head_width >= 1 &&
              head_width <= kernels::kMostHeadWidth,
          [&] {
            return text("attention: the last axis of qkv must be 3 x ", heads, " heads of 1 to ",
                        kernels::kMostHeadWidth, " values, got ", qkv_any.shape().str());
          });
  const Tensor qkv = qkv_any.contiguous();
  const Tensor y = Tensor::empty({batch, tokens, heads * head_width}, qkv.dtype(), qkv.device());
  const Tensor log_sum_exp =
      Tensor::empty({batch, heads, tokens}, master_of(qkv.dtype()), qkv.device());
  const kernels::Attention args{.qkv = qkv.data(),
                                .y = y.data(),
                                .log_sum_exp = log_sum_exp.data(),
                                .batch = to_int(batch),
                                .tokens = to_int(tokens),
                                .heads = heads,
                                .head_width = to_int(head_width),
                                .dtype = qkv.dtype()};
  dispatch(
      qkv.device(), [&](auto on) { return kernels::attention_workspace(on, args); },
      [&](auto on) { return kernels::attention(on, args); });
  const Saved saved{qkv, y, log_sum_exp};
  return recorded("attention", {qkv_any}, y, [saved](const Tensors& d_y, const Needs&) -> Tensors {
    return {attention_grad(saved, d_y[0])};
  });
}

}  // namespace moat::engine
