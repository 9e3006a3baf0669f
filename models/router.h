#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "models/net.h"

namespace moat::models {

// The net that chooses an expert for each image.
struct RouterSettings {
  // A residual net with pad shortcuts (He et al. 2016), as AdvMoE has it; both empty: one linear
  // map of the pixels, as RT-ER has it.
  std::vector<int> blocks = {}, widths = {};
  // It sees means of pool x pool pixels. 0: 1 for images below 64 pixels, and above the least with
  // which the router costs at most a tenth of an image's path; 1: every pixel, as released.
  int pool = 0;
  bool score_norm = true;  // batch norm without affine on its scores
  bool trained = true;     // false: the random map it starts with is kept, as RT-ER released it
};

// Images, normalised, to one score per expert, float32 [n, experts].
class Router : public engine::Module {
 public:
  struct Images {
    int height, width, channels;
  };
  // `path`: the multiply-accumulates of one expert's net.
  Router(const RouterSettings& settings, const Images& images, int experts, int64_t path,
         engine::InitStream& stream);

  engine::Tensor scores(const engine::Tensor& x, engine::Mode mode) const;
  // Bounds in evaluation of s_i - s_j for every pair of experts, [n, experts, experts]; exact, but
  // for rounding, of a router that is a linear map.
  engine::Differences score_differences(const engine::Bounds& x) const;
  bool is_linear() const { return net_ == nullptr; }
  // What its last linear map is in evaluation, score norm folded in; float64 on the CPU. Of a
  // linear router, of the normalised pixels.
  engine::Linear head() const;
  void visit(engine::Visitor& v) override;
  int64_t macs() const { return macs_; }
  int pool() const { return pool_; }

 private:
  bool trained_;
  int pool_ = 1;
  int64_t macs_ = 0;
  std::unique_ptr<Net> net_;
  // Without a net: a convolution whose window is the image, [experts, height, width, channels].
  engine::Tensor weight_, bias_;
  std::optional<engine::BatchNorm> score_norm_;
};

}  // namespace moat::models
