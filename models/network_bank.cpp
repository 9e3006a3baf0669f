#include "models/network_bank.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

NetworkBank::NetworkBank(const NetShape& shape, int experts, Init init, InitStream& stream) {
  for (int e = 0; e < experts; ++e) nets_.push_back(make_net(shape, init, stream));
}

Tensor NetworkBank::forward(const Tensor& x, const Pass& pass) const {
  require(pass.route != nullptr, "NetworkBank: experts need a route");
  const auto offsets = pass.route->segments.offsets.to(Device{}).to_vector<int32_t>();
  Tensors parts;
  for (size_t e = 0; e < nets_.size(); ++e) {
    const int32_t from = offsets[e], to = offsets[e + 1];
    const Mode mode = to - from == 1 ? Mode::eval : pass.mode;
    if (from < to) parts.push_back(nets_[e]->forward(slice(x, 0, from, to), {.mode = mode}));
  }
  if (parts.empty()) return nets_[0]->forward(x, {.mode = pass.mode});
  const Tensor y = parts.size() == 1 ? parts[0] : concat(parts, 0);
  const Tensor& gate = pass.route->gate;
  return gate.defined() ? mul(y, cast(reshape(gate, {y.dim(0), 1}), y.dtype())) : y;
}

Bounds NetworkBank::features(const Bounds& x, const ExpertPath& path) const {
  return nets_.at(static_cast<size_t>(path.expert))->features(x, {});
}
const Linear& NetworkBank::head(const ExpertPath& path) const {
  return nets_.at(static_cast<size_t>(path.expert))->head({});
}

void NetworkBank::visit(Visitor& v) {
  for (size_t e = 0; e < nets_.size(); ++e) v.child(text("experts.", e), *nets_[e]);
}

Macs NetworkBank::macs(int height, int width) const {
  const Macs one = nets_[0]->macs(height, width);
  return {.path = one.path, .all_experts = one.path * static_cast<int64_t>(nets_.size())};
}

}  // namespace moat::models
