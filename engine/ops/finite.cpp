#include "engine/ops/finite.h"

#include "engine/dispatch.h"
#include "kernels/basic/finite.h"

namespace moat::engine {

namespace {

// How many, and the first; as the kernel finds them.
std::vector<int64_t> found_in(const char* op, const Tensor& x) {
  require(x.defined() && is_floating(x.dtype()), [&] {
    return text(op, ": x must be floating, got ", x.defined() ? name_of(x.dtype()) : "nothing");
  });
  const Tensor dense = x.contiguous(), found = Tensor::empty({2}, Dtype::i64, x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::finite(on, {.x = dense.data(),
                                .count = dense.size(),
                                .found = found.data_as<int64_t>(),
                                .dtype = dense.dtype()});
  });
  return found.to_vector<int64_t>();
}

}  // namespace

int64_t count_nonfinite(const Tensor& x) { return found_in("count_nonfinite", x)[0]; }

int64_t first_nonfinite(const Tensor& x) {
  const auto found = found_in("first_nonfinite", x);
  return found[0] > 0 ? found[1] : -1;
}

}  // namespace moat::engine
