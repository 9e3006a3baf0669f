#include "engine/ops/linalg.h"

#include "engine/dispatch.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "kernels/basic/gemm.h"

namespace moat::engine {

namespace {

using kernels::Transpose;

// op(a) · op(b) + bias + added, for matrices that fit.
Tensor product(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
               Dtype dtype, const Tensor& bias = {}, const Tensor& added = {}) {
  const Tensor left = a.contiguous(), right = b.contiguous(), offset = bias.contiguous(),
               addend = added.contiguous();
  const int64_t m = a.dim(transpose_a == Transpose::yes ? 1 : 0),
                k = a.dim(transpose_a == Transpose::yes ? 0 : 1),
                n = b.dim(transpose_b == Transpose::yes ? 0 : 1);
  const Tensor y = Tensor::empty({m, n}, dtype, a.device());
  const kernels::Gemm args{.a = left.data(),
                           .b = right.data(),
                           .bias = offset.data(),
                           .added = addend.data(),
                           .y = y.data(),
                           .m = to_int(m),
                           .n = to_int(n),
                           .k = to_int(k),
                           .transpose_a = transpose_a,
                           .transpose_b = transpose_b,
                           .dtype = a.dtype(),
                           .y_dtype = dtype};
  dispatch(
      common_device({a, b, bias, added}),
      [&](auto on) { return kernels::gemm_workspace(on, args); },
      [&](auto on) { return kernels::gemm(on, args); });
  return y;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  require(a.rank() == 2 && b.rank() == 2 && a.dim(1) == b.dim(0), [&] {
    return text("matmul: a must be [m, k] and b [k, n], got ", a.shape().str(), " and ",
                b.shape().str());
  });
  require(is_floating(a.dtype()) && a.dtype() == b.dtype(), [&] {
    return text("matmul: a and b must share a floating dtype, got ", name_of(a.dtype()), " and ",
                name_of(b.dtype()));
  });
  const Tensor y = product(a, Transpose::no, b, Transpose::no, a.dtype());
  const Tensor saved_a = is_differentiated(b) ? a : Tensor{},
               saved_b = is_differentiated(a) ? b : Tensor{};
  return recorded(
      "matmul", {a, b}, y, [saved_a, saved_b](const Tensors& d, const Needs& needs) -> Tensors {
        return {needs[0] ? product(d[0], Transpose::no, saved_b, Transpose::yes, d[0].dtype())
                         : Tensor{},
                needs[1] ? product(saved_a, Transpose::yes, d[0], Transpose::no, d[0].dtype())
                         : Tensor{}};
      });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
  require(x.rank() == 2 && weight.rank() == 2 && x.dim(1) == weight.dim(1), [&] {
    return text("linear: x must be [rows, in] and weight [out, in], got ", x.shape().str(), " and ",
                weight.shape().str());
  });
  const Dtype master = master_of(x.dtype());
  require(is_floating(x.dtype()) && weight.dtype() == master, [&] {
    return text("linear: a ", name_of(x.dtype()), " x needs a ", name_of(master), " weight, got ",
                name_of(weight.dtype()));
  });
  require(!bias.defined() || (bias.shape() == Shape{weight.dim(0)} && bias.dtype() == master), [&] {
    return text("linear: bias must be ", name_of(master), " [", weight.dim(0), "], got ",
                name_of(bias.dtype()), " ", bias.shape().str());
  });
  require(!residual.defined() ||
              (residual.shape() == Shape{x.dim(0), weight.dim(0)} && residual.dtype() == x.dtype()),
          [&] {
            return text("linear: residual must be ", name_of(x.dtype()), " [", x.dim(0), ", ",
                        weight.dim(0), "], got ", name_of(residual.dtype()), " ",
                        residual.shape().str());
          });
  const Tensor rounded = weight.to(x.dtype());
  const Tensor y = product(x, Transpose::no, rounded, Transpose::yes, x.dtype(), bias, residual);
  const Tensor saved_x = is_differentiated(weight) ? x : Tensor{},
               saved_weight = is_differentiated(x) ? rounded : Tensor{};
  return recorded(
      "linear", {x, weight, bias, residual}, y,
      [saved_x, saved_weight, master](const Tensors& d, const Needs& needs) -> Tensors {
        const Tensor& d_y = d[0];
        return {needs[0] ? product(d_y, Transpose::no, saved_weight, Transpose::no, d_y.dtype())
                         : Tensor{},
                needs[1] ? product(d_y, Transpose::yes, saved_x, Transpose::no, master) : Tensor{},
                needs[2] ? sum(d_y, 0, master) : Tensor{}, needs[3] ? d_y : Tensor{}};
      });
}

}  // namespace moat::engine
