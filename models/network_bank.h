#pragma once

#include <memory>
#include <vector>

#include "models/net.h"

namespace moat::models {

// Experts that are whole networks (RT-ER, Zhang et al. 2025): each runs on its segment of the
// sorted batch with norms of its own. A segment of a single image has no batch statistics where
// maps are 1x1: it is normed by the running ones. On a GPU the segments' sizes are read on the
// host.
class NetworkBank : public Net {
 public:
  NetworkBank(const NetShape& shape, int experts, Init init, engine::InitStream& stream);

  engine::Tensor forward(const engine::Tensor& x, const Pass& pass) const override;
  engine::Bounds features(const engine::Bounds& x, const ExpertPath& path) const override;
  const engine::Linear& head(const ExpertPath& path) const override;
  void visit(engine::Visitor& v) override;  // experts.0.…, experts.1.…
  Macs macs(int height, int width) const override;

 private:
  std::vector<std::unique_ptr<Net>> nets_;
};

}  // namespace moat::models
