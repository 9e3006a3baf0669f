#include "engine/ops/loss.h"

#include "engine/dispatch.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/operand.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/dlr.h"
#include "kernels/loss/kl_divergence.h"
#include "kernels/loss/margin.h"
#include "kernels/loss/softmax.h"

namespace moat::engine {

namespace {

// The extents of a tensor seen as rows of its last axis.
struct Rows {
  int rows, columns;
};

Rows rows_of(const Tensor& x) {
  int64_t rows = 1;
  for (int axis = 0; axis + 1 < x.rank(); ++axis) rows *= x.dim(axis);
  return {to_int(rows), to_int(x.dim(-1))};
}

void require_logits(const char* op, const Tensor& x) {
  require(
      x.defined() && x.rank() == 2 && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64), [&] {
        return text(op, ": logits must be float32 or float64 [rows, classes], got ", described(x));
      });
}

void require_labels(const char* op, const Tensor& labels, const Tensor& logits,
                    const char* what = "labels") {
  require(
      labels.defined() && labels.dtype() == Dtype::i32 && labels.shape() == Shape{logits.dim(0)},
      [&] {
        return text(op, ": ", what, " must be int32 [", logits.dim(0), "], got ",
                    described(labels));
      });
  if (!labels.device().is_cpu()) return;  // looked at by the kernel: NaN
  const std::vector<int32_t> values = labels.to_vector<int32_t>();
  for (size_t row = 0; row < values.size(); ++row)
    require(values[row] >= 0 && values[row] < logits.dim(1), [&] {
      return text(op, ": ", what, " must be in [0, ", logits.dim(1), "), got ", values[row],
                  " in row ", row);
    });
}

// targets: undefined for the untargeted form.
Tensor dlr_rows(const char* op, const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  const Tensor z = logits.contiguous(), y = labels.contiguous(), t = targets.contiguous(),
               values = Tensor::empty({z.dim(0)}, z.dtype(), z.device());
  const Rows size = rows_of(z);
  const int32_t* targeted = t.defined() ? t.data_as<int32_t>() : nullptr;
  dispatch(common_device({z, y, t}), [&](auto on) {
    return kernels::dlr(on, {.logits = z.data(),
                             .labels = y.data_as<int32_t>(),
                             .targets = targeted,
                             .values = values.data(),
                             .rows = size.rows,
                             .classes = size.columns,
                             .dtype = z.dtype()});
  });
  return recorded(op, {logits}, values,
                  [z, y, t, targeted, size](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_values = d_outputs[0].contiguous(),
                                 d_z = Tensor::empty(z.shape(), z.dtype(), z.device());
                    const kernels::DlrGrad args{.logits = z.data(),
                                                .labels = y.data_as<int32_t>(),
                                                .targets = targeted,
                                                .d_values = d_values.data(),
                                                .d_logits = d_z.data(),
                                                .rows = size.rows,
                                                .classes = size.columns,
                                                .dtype = z.dtype()};
                    dispatch(z.device(), [&](auto on) { return kernels::dlr_grad(on, args); });
                    return {d_z};
                  });
}

void require_classes(const char* op, const char* needed, int64_t classes, const Tensor& logits) {
  require(logits.dim(1) >= classes || logits.dim(0) == 0, [&] {
    return text(op, ": needs ", needed, " classes or more, got logits ", logits.shape().str());
  });
}

Tensor softmax_rows(const char* op, const Tensor& logits, kernels::SoftmaxForm form) {
  require(logits.defined() && logits.rank() >= 1 && is_floating(logits.dtype()), [&] {
    return text(op, ": logits must be floating with at least one axis, got ", described(logits));
  });
  const Tensor x = logits.contiguous(), y = Tensor::empty(x.shape(), x.dtype(), x.device());
  const Rows size = rows_of(x);
  dispatch(x.device(), [&](auto on) {
    return kernels::softmax(on, {.x = x.data(),
                                 .y = y.data(),
                                 .rows = size.rows,
                                 .columns = size.columns,
                                 .form = form,
                                 .dtype = x.dtype()});
  });
  return recorded(op, {logits}, y,
                  [y, form, size](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_y = d_outputs[0].contiguous(),
                                 d_x = Tensor::empty(y.shape(), y.dtype(), y.device());
                    const kernels::SoftmaxGrad args{.y = y.data(),
                                                    .d_y = d_y.data(),
                                                    .d_x = d_x.data(),
                                                    .rows = size.rows,
                                                    .columns = size.columns,
                                                    .form = form,
                                                    .dtype = y.dtype()};
                    dispatch(y.device(), [&](auto on) { return kernels::softmax_grad(on, args); });
                    return {d_x};
                  });
}

}  // namespace

Tensor softmax(const Tensor& logits) {
  return softmax_rows("softmax", logits, kernels::SoftmaxForm::softmax);
}

Tensor log_softmax(const Tensor& logits) {
  return softmax_rows("log_softmax", logits, kernels::SoftmaxForm::log_softmax);
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels) {
  require_logits("cross_entropy", logits);
  require_labels("cross_entropy", labels, logits);
  const Tensor z = logits.contiguous(), y = labels.contiguous(),
               values = Tensor::empty({z.dim(0)}, z.dtype(), z.device());
  const Rows size = rows_of(z);
  dispatch(common_device({z, y}), [&](auto on) {
    return kernels::cross_entropy(on, {.logits = z.data(),
                                       .labels = y.data_as<int32_t>(),
                                       .values = values.data(),
                                       .rows = size.rows,
                                       .classes = size.columns,
                                       .dtype = z.dtype()});
  });
  return recorded("cross_entropy", {logits}, values,
                  [z, y, size](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_values = d_outputs[0].contiguous(),
                                 d_z = Tensor::empty(z.shape(), z.dtype(), z.device());
                    const kernels::CrossEntropyGrad args{.logits = z.data(),
                                                         .labels = y.data_as<int32_t>(),
                                                         .d_values = d_values.data(),
                                                         .d_logits = d_z.data(),
                                                         .rows = size.rows,
                                                         .classes = size.columns,
                                                         .dtype = z.dtype()};
                    dispatch(z.device(),
                             [&](auto on) { return kernels::cross_entropy_grad(on, args); });
                    return {d_z};
                  });
}

Tensor mixed_cross_entropy(const Tensor& logits, const Tensor& labels, const Tensor& other_labels,
                           const Tensor& weight) {
  require_logits("mixed_cross_entropy", logits);
  require(weight.defined() && weight.dtype() == logits.dtype() &&
              weight.shape() == Shape{logits.dim(0)},
          [&] {
            return text("mixed_cross_entropy: weight must be ", name_of(logits.dtype()), " [",
                        logits.dim(0), "], got ", described(weight));
          });
  return add(mul(weight, cross_entropy(logits, labels)),
             mul(affine(weight, -1, 1), cross_entropy(logits, other_labels)));
}

Tensor kl_divergence(const Tensor& p_logits, const Tensor& q_logits) {
  require_logits("kl_divergence", p_logits);
  require_logits("kl_divergence", q_logits);
  require(p_logits.shape() == q_logits.shape() && p_logits.dtype() == q_logits.dtype() &&
              (p_logits.dim(1) > 0 || p_logits.dim(0) == 0),
          [&] {
            return text(
                "kl_divergence: both logits must have one shape and dtype and a class, got ",
                name_of(p_logits.dtype()), " ", p_logits.shape().str(), " and ",
                name_of(q_logits.dtype()), " ", q_logits.shape().str());
          });
  const Tensor p = p_logits.contiguous(), q = q_logits.contiguous(),
               values = Tensor::empty({p.dim(0)}, p.dtype(), p.device());
  const Rows size = rows_of(p);
  dispatch(common_device({p, q}), [&](auto on) {
    return kernels::kl_divergence(on, {.p = p.data(),
                                       .q = q.data(),
                                       .values = values.data(),
                                       .rows = size.rows,
                                       .classes = size.columns,
                                       .dtype = p.dtype()});
  });
  return recorded("kl_divergence", {p_logits, q_logits}, values,
                  [p, q, size](const Tensors& d_outputs, const Needs& needs) -> Tensors {
                    const Tensor d_values = d_outputs[0].contiguous();
                    Tensor d_p, d_q;
                    if (needs[0]) d_p = Tensor::empty(p.shape(), p.dtype(), p.device());
                    if (needs[1]) d_q = Tensor::empty(q.shape(), q.dtype(), q.device());
                    const kernels::KlDivergenceGrad args{.p = p.data(),
                                                         .q = q.data(),
                                                         .d_values = d_values.data(),
                                                         .d_p = d_p.data(),
                                                         .d_q = d_q.data(),
                                                         .rows = size.rows,
                                                         .classes = size.columns,
                                                         .dtype = p.dtype()};
                    dispatch(p.device(),
                             [&](auto on) { return kernels::kl_divergence_grad(on, args); });
                    return {d_p, d_q};
                  });
}

Tensor margin(const Tensor& logits, const Tensor& labels) {
  require_logits("margin", logits);
  require_classes("margin", "two", 2, logits);
  require_labels("margin", labels, logits);
  const Tensor z = logits.contiguous(), y = labels.contiguous(),
               values = Tensor::empty({z.dim(0)}, z.dtype(), z.device());
  const Rows size = rows_of(z);
  dispatch(common_device({z, y}), [&](auto on) {
    return kernels::margin(on, {.logits = z.data(),
                                .labels = y.data_as<int32_t>(),
                                .values = values.data(),
                                .rows = size.rows,
                                .classes = size.columns,
                                .dtype = z.dtype()});
  });
  return recorded("margin", {logits}, values,
                  [z, y, size](const Tensors& d_outputs, const Needs&) -> Tensors {
                    const Tensor d_values = d_outputs[0].contiguous(),
                                 d_z = Tensor::empty(z.shape(), z.dtype(), z.device());
                    const kernels::MarginGrad args{.logits = z.data(),
                                                   .labels = y.data_as<int32_t>(),
                                                   .d_values = d_values.data(),
                                                   .d_logits = d_z.data(),
                                                   .rows = size.rows,
                                                   .classes = size.columns,
                                                   .dtype = z.dtype()};
                    dispatch(z.device(), [&](auto on) { return kernels::margin_grad(on, args); });
                    return {d_z};
                  });
}

Tensor targeted_margin(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  require_logits("targeted_margin", logits);
  require_labels("targeted_margin", labels, logits);
  require_labels("targeted_margin", targets, logits, "targets");
  const int64_t classes = logits.dim(1);
  std::vector<double> identity(static_cast<size_t>(classes * classes), 0);
  for (int64_t i = 0; i < classes; ++i) identity[static_cast<size_t>(i * classes + i)] = 1;
  const Tensor one_hot =
      Tensor::from(identity, {classes, classes}).to(logits.dtype()).to(logits.device());
  return sum(mul(logits, sub(gather_rows(one_hot, targets), gather_rows(one_hot, labels))), 1);
}

Tensor dlr(const Tensor& logits, const Tensor& labels) {
  require_logits("dlr", logits);
  require_classes("dlr", "three", 3, logits);
  require_labels("dlr", labels, logits);
  return dlr_rows("dlr", logits, labels, {});
}

Tensor targeted_dlr(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  require_logits("targeted_dlr", logits);
  require_classes("targeted_dlr", "four", 4, logits);
  require_labels("targeted_dlr", labels, logits);
  require_labels("targeted_dlr", targets, logits, "targets");
  return dlr_rows("targeted_dlr", logits, labels, targets);
}

}  // namespace moat::engine
