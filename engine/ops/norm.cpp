#include "engine/ops/norm.h"

#include "engine/dispatch.h"
#include "engine/ops/operand.h"
#include "engine/tape.h"
#include "kernels/vision/batch_norm.h"

namespace moat::engine {

namespace {

kernels::NormActivation kernel_activation(Activation activation) {
  return activation == Activation::relu ? kernels::NormActivation::relu
                                        : kernels::NormActivation::none;
}

void require_channels(const char* name, const char* what, const Tensor& t, int64_t channels,
                      Dtype dtype) {
  require(t.shape() == Shape{channels} && t.dtype() == dtype, [&] {
    return text(name, ": ", what, " must be ", name_of(dtype), " [", channels, "], got ",
                described(t));
  });
}

// The operands of a norm, checked and contiguous.
struct Operands {
  Tensor x, gamma, beta, residual;
  int64_t rows = 0, channels = 0;

  Operands(const char* name, const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
           const Tensor& residual_any)
      : x(x_any.contiguous()),
        gamma(gamma_any.contiguous()),
        beta(beta_any.contiguous()),
        residual(residual_any.contiguous()) {
    require(x.rank() >= 1 && is_floating(x.dtype()) && x.shape().back() > 0, [&] {
      return text(name, ": x must be floating-point [..., channels], got ", name_of(x.dtype()), " ",
                  x.shape().str());
    });
    channels = x.shape().back();
    rows = x.size() / channels;
    const Dtype dtype = master_of(x.dtype());
    if (gamma.defined()) require_channels(name, "gamma", gamma, channels, dtype);
    if (beta.defined()) require_channels(name, "beta", beta, channels, dtype);
    if (residual.defined()) require_operand(name, "residual", residual, x.shape(), x.dtype());
  }

  Tensor per_channel() const { return Tensor::empty({channels}, master_of(x.dtype()), x.device()); }
};

// What the gradient is computed from. x is undefined when it is not needed.
struct Saved {
  Tensor x, gamma, mean, inv_std;
  int64_t rows, channels;
  kernels::NormStatistics statistics;
};

Tensors norm_grad(const Saved& s, const Tensor& d_any, const Needs& needs) {
  const Tensor d = d_any.contiguous();
  const auto like = [&](bool needed, const Tensor& model) {
    return needed ? Tensor::empty(model.shape(), model.dtype(), model.device()) : Tensor{};
  };
  const Tensor d_x = like(needs[0], d), d_gamma = like(needs[1], s.inv_std),
               d_beta = like(needs[2], s.inv_std);
  const kernels::BatchNormGrad args{.d = d.data(),
                                    .x = s.x.data(),
                                    .gamma = s.gamma.data(),
                                    .mean = s.mean.data(),
                                    .inv_std = s.inv_std.data(),
                                    .d_x = d_x.data(),
                                    .d_gamma = d_gamma.data(),
                                    .d_beta = d_beta.data(),
                                    .rows = s.rows,
                                    .channels = to_int(s.channels),
                                    .statistics = s.statistics,
                                    .dtype = d.dtype()};
  dispatch(
      d.device(), [&](auto on) { return kernels::batch_norm_grad_workspace(on, args); },
      [&](auto on) { return kernels::batch_norm_grad(on, args); });
  return {d_x, d_gamma, d_beta, needs[3] ? d : Tensor{}};
}

}  // namespace

Tensor batch_norm_train(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                        const Tensor& running_mean, const Tensor& running_var,
                        const Tensor& residual, Activation activation,
                        const BatchNormOptions& options) {
  const char* name = "batch_norm_train";
  const Operands in(name, x, gamma, beta, residual);
  require(in.rows >= 2, [&] {
    return text(name, ": batch statistics need at least two values per channel, got x ",
                x.shape().str());
  });
  for (const Tensor* running : {&running_mean, &running_var}) {
    if (!running->defined()) continue;
    require_channels(name, "a running statistic", *running, in.channels, master_of(x.dtype()));
    require(running->is_contiguous(), [&] {
      return text(name, ": a running statistic must be contiguous, it is updated in place");
    });
  }
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor mean = in.per_channel(), inv_std = in.per_channel();
  const kernels::BatchNormTrain args{.x = in.x.data(),
                                     .gamma = in.gamma.data(),
                                     .beta = in.beta.data(),
                                     .residual = in.residual.data(),
                                     .y = y.data(),
                                     .mean = mean.data(),
                                     .inv_std = inv_std.data(),
                                     .running_mean = running_mean.data(),
                                     .running_var = running_var.data(),
                                     .rows = in.rows,
                                     .channels = to_int(in.channels),
                                     .momentum = options.momentum,
                                     .epsilon = options.epsilon,
                                     .activation = kernel_activation(activation),
                                     .dtype = x.dtype()};
  dispatch(
      common_device({x, gamma, beta, residual, running_mean, running_var}),
      [&](auto on) { return kernels::batch_norm_train_workspace(on, args); },
      [&](auto on) { return kernels::batch_norm_train(on, args); });
  running_mean.mark_written();
  running_var.mark_written();
  const Saved saved{
      in.x, in.gamma, mean, inv_std, in.rows, in.channels, kernels::NormStatistics::batch};
  return recorded(
      name, {x, gamma, beta, residual}, y,
      [saved](const Tensors& d, const Needs& needs) { return norm_grad(saved, d[0], needs); },
      source_of(activation));
}

Tensor batch_norm_eval(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                       const Tensor& running_mean, const Tensor& running_var,
                       const Tensor& residual, Activation activation,
                       const BatchNormOptions& options) {
  const char* name = "batch_norm_eval";
  const Operands in(name, x, gamma, beta, residual);
  require_channels(name, "running_mean", running_mean, in.channels, master_of(x.dtype()));
  require_channels(name, "running_var", running_var, in.channels, master_of(x.dtype()));
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Tensor mean = running_mean.contiguous(), var = running_var.contiguous(),
               inv_std = in.per_channel();
  const kernels::BatchNormEval args{.x = in.x.data(),
                                    .gamma = in.gamma.data(),
                                    .beta = in.beta.data(),
                                    .mean = mean.data(),
                                    .var = var.data(),
                                    .residual = in.residual.data(),
                                    .y = y.data(),
                                    .inv_std = inv_std.data(),
                                    .rows = in.rows,
                                    .channels = to_int(in.channels),
                                    .epsilon = options.epsilon,
                                    .activation = kernel_activation(activation),
                                    .dtype = x.dtype()};
  dispatch(
      common_device({x, gamma, beta, residual, running_mean, running_var}),
      [&](auto on) { return kernels::batch_norm_eval_workspace(on, args); },
      [&](auto on) { return kernels::batch_norm_eval(on, args); });
  // Only the gradients of gamma and beta read x and the mean, which a later training step changes.
  const bool sums = is_differentiated(gamma) || is_differentiated(beta);
  const Saved saved{sums ? in.x : Tensor{},
                    in.gamma,
                    sums ? mean.clone() : Tensor{},
                    inv_std,
                    in.rows,
                    in.channels,
                    kernels::NormStatistics::constant};
  return recorded(
      name, {x, gamma, beta, residual}, y,
      [saved](const Tensors& d, const Needs& needs) { return norm_grad(saved, d[0], needs); },
      source_of(activation));
}

FoldedConv fold_batch_norm(const Tensor& filter_any, const Tensor& gamma, const Tensor& beta,
                           const Tensor& running_mean, const Tensor& running_var,
                           const BatchNormOptions& options) {
  const char* name = "fold_batch_norm";
  require(filter_any.rank() == 4 &&
              (filter_any.dtype() == Dtype::f32 || filter_any.dtype() == Dtype::f64),
          [&] {
            return text(name, ": filter must be float32 or float64 [c_out, r, s, c_in], got ",
                        name_of(filter_any.dtype()), " ", filter_any.shape().str());
          });
  const Tensor filter = filter_any.contiguous();
  const int64_t channels = running_mean.size(), rows = filter.dim(0),
                experts = channels > 0 && rows % channels == 0 ? rows / channels : 1;
  for (const Tensor* t : {&gamma, &beta})
    if (t->defined()) require_channels(name, "gamma and beta", *t, channels, filter.dtype());
  require_channels(name, "running_mean", running_mean, rows / experts, filter.dtype());
  require_channels(name, "running_var", running_var, channels, filter.dtype());
  const Tensor scale = gamma.contiguous(), shift = beta.contiguous(),
               mean = running_mean.contiguous(), var = running_var.contiguous();
  const FoldedConv out{Tensor::empty(filter.shape(), filter.dtype(), filter.device()),
                       Tensor::empty({rows}, filter.dtype(), filter.device())};
  for (int64_t e = 0; e < experts; ++e) {
    const auto part = [&](const Tensor& bank) {
      return bank.sliced(0, e * channels, (e + 1) * channels).data();
    };
    dispatch(common_device({filter, scale, shift, mean, var}), [&](auto on) {
      return kernels::batch_norm_fold(on,
                                      {.filter = part(filter),
                                       .gamma = scale.data(),
                                       .beta = shift.data(),
                                       .mean = mean.data(),
                                       .var = var.data(),
                                       .folded = part(out.filter),
                                       .bias = part(out.bias),
                                       .channels = to_int(channels),
                                       .filter_size = filter.dim(1) * filter.dim(2) * filter.dim(3),
                                       .epsilon = options.epsilon,
                                       .dtype = filter.dtype()});
    });
  }
  return out;
}

}  // namespace moat::engine
