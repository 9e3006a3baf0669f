#include "engine/ops/layer_norm.h"

#include "engine/dispatch.h"
#include "engine/ops/elementwise.h"
#include "engine/tape.h"
#include "kernels/vision/layer_norm.h"

namespace moat::engine {

namespace {

// What the gradient is computed from.
struct Saved {
  Tensor x, gamma, mean, inv_std;
};

Tensors layer_norm_grad(const Saved& s, const Tensor& d_y_any, const Needs& needs,
                        const Finish& finish) {
  const Tensor d_y = d_y_any.contiguous(), added = finish.added.contiguous();
  const int64_t width = d_y.shape().back();
  const auto per_width = [&](bool needed) {
    return needed ? Tensor::empty({width}, s.mean.dtype(), d_y.device()) : Tensor{};
  };
  const Tensor d_x = needs[0] ? Tensor::empty(d_y.shape(), d_y.dtype(), d_y.device()) : Tensor{},
               d_gamma = per_width(needs[1]), d_beta = per_width(needs[2]);
  const kernels::LayerNormGrad args{.d_y = d_y.data(),
                                    .x = s.x.data(),
                                    .gamma = s.gamma.data(),
                                    .mean = s.mean.data(),
                                    .inv_std = s.inv_std.data(),
                                    .added = added.data(),
                                    .d_x = d_x.data(),
                                    .d_gamma = d_gamma.data(),
                                    .d_beta = d_beta.data(),
                                    .rows = to_int(s.mean.size()),
                                    .width = to_int(width),
                                    .dtype = d_y.dtype()};
  dispatch(
      d_y.device(), [&](auto on) { return kernels::layer_norm_grad_workspace(on, args); },
      [&](auto on) { return kernels::layer_norm_grad(on, args); });
  return {finish.mask.defined() ? behind_relu(d_x, finish.mask) : d_x, d_gamma, d_beta};
}

}  // namespace

Tensor layer_norm(const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                  double epsilon) {
  require(x_any.rank() >= 1 && is_floating(x_any.dtype()) && x_any.shape().back() > 0, [&] {
    return text("layer_norm: x must be floating-point [..., width], got ", name_of(x_any.dtype()),
                " ", x_any.shape().str());
  });
  require(epsilon > 0, [&] { return text("layer_norm: epsilon must be positive, got ", epsilon); });
  require(gamma_any.defined() == beta_any.defined(), [&] {
    return text("layer_norm: gamma and beta come together, got ",
                gamma_any.defined() ? "gamma" : "beta", " alone");
  });
  const int64_t width = x_any.shape().back();
  const Dtype master = master_of(x_any.dtype());
  for (const Tensor* t : {&gamma_any, &beta_any})
    require(!t->defined() || (t->shape() == Shape{width} && t->dtype() == master), [&] {
      return text("layer_norm: ", t == &gamma_any ? "gamma" : "beta", " must be ", name_of(master),
                  " [", width, "], got ", name_of(t->dtype()), " ", t->shape().str());
    });
  const Tensor x = x_any.contiguous(), gamma = gamma_any.contiguous(), beta = beta_any.contiguous(),
               y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const int64_t rows = x.size() / width;
  const Tensor mean = Tensor::empty({rows}, master, x.device()),
               inv_std = Tensor::empty({rows}, master, x.device());
  const kernels::LayerNorm args{.x = x.data(),
                                .gamma = gamma.data(),
                                .beta = beta.data(),
                                .y = y.data(),
                                .mean = mean.data(),
                                .inv_std = inv_std.data(),
                                .rows = to_int(rows),
                                .width = to_int(width),
                                .epsilon = epsilon,
                                .dtype = x.dtype()};
  dispatch(common_device({x, gamma, beta}), [&](auto on) { return kernels::layer_norm(on, args); });
  const Saved saved{x, gamma, mean, inv_std};
  return recorded_finishing("layer_norm", {x_any, gamma_any, beta_any}, y,
                            [saved](const Tensors& d_y, const Needs& needs, const Finish& finish) {
                              return layer_norm_grad(saved, d_y[0], needs, finish);
                            });
}

}  // namespace moat::engine
