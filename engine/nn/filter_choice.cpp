#include "engine/nn/filter_choice.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::engine {

namespace {

// 1 for each of sizes [n] that fewer than `kept` others exceed.
Tensor largest(const Tensor& sizes, int kept) {
  const int64_t n = sizes.size();
  const Tensor exceeds = relu(sign(sub(sizes.reshaped({1, n}), sizes.reshaped({n, 1}))));
  return relu(sign(affine(sum(exceeds, 1), -1, kept)));
}

}  // namespace

Tensor keep_filters(const Tensor& filter, const Tensor& scores, int kept) {
  const int64_t n = scores.size();
  require(filter.rank() == 4 && scores.rank() == 1 && n == filter.dim(0), [&] {
    return text("keep_filters: there must be one score per filter, got ", scores.shape().str(),
                " for ", filter.shape().str());
  });
  require(kept >= 1 && kept <= n,
          [&] { return text("keep_filters: from 1 to ", n, " filters can be kept, got ", kept); });
  const Tensor size = abs(scores);
  const Tensor constant = size.detached();
  // |score| - |score| is 0 to the bit and carries the gradient.
  const Tensor factor = add(sub(size, constant), largest(constant, kept));
  return mul(filter, reshape(factor, {n, 1, 1, 1}));
}

}  // namespace moat::engine
