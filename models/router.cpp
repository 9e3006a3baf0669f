#include "models/router.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {

constexpr int kLargeImage = 64;       // pixels a side
constexpr double kShareOfPath = 0.1;  // of the multiply-accumulates, for large images
constexpr int kLeastSide = 8;         // of what the router sees

int chosen_pool(const RouterSettings& s, const Router::Images& images, int64_t path,
                const Net& net) {
  if (s.pool > 0) return s.pool;
  const int side = std::min(images.height, images.width);
  if (side < kLargeImage) return 1;
  int pool = 1;
  while (side / (pool + 1) >= kLeastSide &&
         static_cast<double>(net.macs(images.height / pool, images.width / pool).path) >
             kShareOfPath * static_cast<double>(path))
    ++pool;
  return pool;
}

}  // namespace

Router::Router(const RouterSettings& s, const Images& images, int experts, int64_t path,
               InitStream& stream)
    : trained_(s.trained) {
  if (s.blocks.empty()) {
    const Shape shape{experts, images.height, images.width, images.channels};
    const double bound = 1 / std::sqrt(double(shape.count()) / experts);
    weight_ = init_uniform(shape, bound, stream);
    bias_ = init_uniform({experts, 1}, bound, stream).reshaped({experts});
    macs_ = weight_.size();
  } else {
    net_ = make_net({.blocks = s.blocks,
                     .widths = s.widths,
                     .stem_width = s.widths.at(0),
                     .shortcut = Shortcut::pad,
                     .in_channels = images.channels,
                     .outputs = experts},
                    Init::uniform, stream);
    pool_ = chosen_pool(s, images, path, *net_);
    require(pool_ <= std::min(images.height, images.width), [&] {
      return text("the router cannot take means of ", pool_, "x", pool_, " pixels of images of ",
                  images.height, "x", images.width);
    });
    macs_ = net_->macs(images.height / pool_, images.width / pool_).path;
  }
  if (s.score_norm) score_norm_.emplace(experts, BatchNorm::Affine::no);
}

Tensor Router::scores(const Tensor& x, Mode mode) const {
  Tensor scores;
  if (net_) {
    scores = net_->forward(pool_ > 1 ? avg_pool2d(x, pool_, pool_) : x, {.mode = mode});
  } else {
    const Tensor pixels = reshape(x, {x.dim(0), -1});
    scores = linear(pixels, reshape(weight_, {weight_.dim(0), -1}), bias_);
  }
  if (scores.dtype() == Dtype::bf16) scores = cast(scores, Dtype::f32);
  return score_norm_ ? score_norm_->forward(scores, mode) : scores;
}

Linear Router::head() const {
  const auto wide = [](const Tensor& t) { return t.to(Device{}).to(Dtype::f64); };
  Linear head;
  head.weight = wide(net_ ? net_->head({}).weight : weight_.reshaped({weight_.dim(0), -1}));
  head.bias = wide(net_ ? net_->head({}).bias : bias_);
  if (!score_norm_) return head;
  const Tensor deviation =
      sqrt(affine(wide(score_norm_->running_var), 1, score_norm_->options.epsilon));
  head.weight = div(head.weight, reshape(deviation, {deviation.size(), 1}));
  head.bias = div(sub(head.bias, wide(score_norm_->running_mean)), deviation);
  return head;
}

Differences Router::score_differences(const Bounds& x) const {
  const Bounds seen = net_ ? net_->features(pool_ > 1 ? avg_pool2d(x, pool_, pool_) : x, {})
                           : reshape(x, {x.dim(0), -1});
  const Linear last = head();
  return linear_differences(seen, last.weight, last.bias);
}

void Router::visit(Visitor& v) {
  Visitor each([&](const std::string& name, Tensor& value, Role role) {
    if (trained_ && role == Role::parameter)
      v.parameter(name, value);
    else
      v.buffer(name, value);
  });
  if (net_) net_->visit(each);
  each.parameter("weight", weight_);
  each.parameter("bias", bias_);
  if (score_norm_) each.child("score_norm", *score_norm_);
}

}  // namespace moat::models
