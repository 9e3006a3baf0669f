#include "engine/ops/finite.h"

#include "engine/dispatch.h"
#include "kernels/basic/finite.h"

namespace moat::engine {

Tensor find_nonfinite(const Tensor& x) {
  require(x.defined() && is_floating(x.dtype()), [&] {
    return text("find_nonfinite: x must be floating, got ",
                x.defined() ? name_of(x.dtype()) : "nothing");
  });
  const Tensor dense = x.contiguous(), found = Tensor::empty({2}, Dtype::i64, x.device());
  dispatch(x.device(), [&](auto on) {
    return kernels::finite(on, {.x = dense.data(),
                                .count = dense.size(),
                                .found = found.data_as<int64_t>(),
                                .dtype = dense.dtype()});
  });
  return found;
}

int64_t count_nonfinite(const Tensor& x) { return find_nonfinite(x).to_vector<int64_t>()[0]; }

}  // namespace moat::engine
