#include "engine/ops/count.h"

#include "engine/dispatch.h"
#include "kernels/basic/count.h"

namespace moat::engine {

namespace {

Tensor integers_of(const char* op, const Tensor& x) {
  require(x.defined() && x.dtype() == Dtype::i32, [&] {
    return text(op, ": the operand must be int32, got ",
                x.defined() ? name_of(x.dtype()) : "nothing");
  });
  return x.contiguous();
}

}  // namespace

Tensor count_equal(const Tensor& a_any, const Tensor& b_any) {
  const Tensor a = integers_of("count_equal", a_any), b = integers_of("count_equal", b_any);
  require(a.shape() == b.shape(), [&] {
    return text("count_equal: the operands must have one shape, got ", a.shape().str(), " and ",
                b.shape().str());
  });
  const Tensor equal = Tensor::empty({1}, Dtype::i64, a.device());
  dispatch(common_device({a, b}), [&](auto on) {
    return kernels::count_equal(on, {.a = a.data_as<int32_t>(),
                                     .b = b.data_as<int32_t>(),
                                     .count = a.size(),
                                     .equal = equal.data_as<int64_t>()});
  });
  return equal;
}

Tensor bin_count(const Tensor& x_any, int bins) {
  const Tensor x = integers_of("bin_count", x_any);
  require(bins >= 0, [&] { return text("bin_count: bins must be >= 0, got ", bins); });
  const Tensor counts = Tensor::empty({bins}, Dtype::i32, x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::bin_count(on, {.x = x.data_as<int32_t>(),
                                   .count = x.size(),
                                   .bins = bins,
                                   .counts = counts.data_as<int32_t>()});
  });
  return counts;
}

}  // namespace moat::engine
