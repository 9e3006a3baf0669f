#include "models/vgg.h"

#include <string>

#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {
constexpr int kSide = 2, kHidden = 256;  // of the classifier

// The window that averages maps of this side to 2x2.
int averaging_window(int64_t side) {
  require(side >= kSide && side % kSide == 0, [&] {
    return text("a VGG averages its last maps to ", kSide, "x", kSide,
                ", which needs an even side, got ", side,
                "; take images of a side divisible by 32");
  });
  return to_int(side) / kSide;
}

Tensor run(const Linear& linear, const Tensor& x) { return linear.forward(x); }
Bounds run(const Linear& linear, const Bounds& x) { return bounds(linear, x); }
}  // namespace

Vgg::Vgg(const NetShape& shape, Init init, InitStream& stream) {
  LayerMaker make(shape, init, stream);
  require(shape.stem == Stem::cifar, "a VGG has no imagenet stem");
  int c_in = shape.in_channels;
  for (size_t s = 0; s < shape.blocks.size(); ++s) {
    auto& stage = stages_.emplace_back();
    for (int b = 0; b < shape.blocks[s]; ++b) {
      const bool is_first = s == 0 && b == 0;
      const int width = is_first ? shape.stem_width : shape.widths[s];
      stage.push_back(is_first ? make.shared(width, c_in, {3}) : make.routed(width, c_in, {3}));
      c_in = width;
    }
  }
  for (const auto& [outputs, inputs] :
       {std::pair{kHidden, c_in * kSide * kSide}, std::pair{kHidden, kHidden},
        std::pair{shape.outputs, kHidden}})
    head_.push_back(make.linear(outputs, inputs));
}

template <class X, class How>
X Vgg::wired(const X& x, const How& how) const {
  X y = x;
  for (const auto& stage : stages_) {
    if (&stage != &stages_.front()) y = max_pool2d(y, 2, 2, 0);
    for (const ConvLayer& conv : stage) y = run(conv, y, how, {}, Activation::relu);
  }
  require(y.dim(1) == y.dim(2), "a VGG takes square images");
  const int window = averaging_window(y.dim(1));
  if (window > 1) y = avg_pool2d(y, window, window);
  // PyTorch flattens channels first.
  y = reshape(permute(y, {0, 3, 1, 2}), {y.dim(0), -1});
  for (const Linear& linear : head_)
    if (&linear != &head_.back()) y = relu(run(linear, y));
  return y;
}

Tensor Vgg::forward(const Tensor& x, const Pass& pass) const {
  return head_.back().forward(wired(x, pass));
}
Bounds Vgg::features(const Bounds& x, const ExpertPath& path) const { return wired(x, path); }
const Linear& Vgg::head(const ExpertPath&) const { return head_.back(); }

void Vgg::visit(Visitor& v) {
  int place = 0;  // in the sequence of convolution, norm, ReLU, … and the pools between stages
  for (auto& stage : stages_) {
    for (ConvLayer& conv : stage) {
      conv.visit(v, text("features.", place), text("features.", place + 1));
      place += 3;
    }
    ++place;
  }
  for (size_t i = 0; i < head_.size(); ++i) v.child(text("classifier.", 2 * i), head_[i]);
}

Macs Vgg::macs(int height, int width) const {
  MacCounter count(height, width);
  for (const auto& stage : stages_) {
    if (&stage != &stages_.front()) count.pool(2, 2, 0);
    for (const ConvLayer& conv : stage) count.run(conv);
  }
  averaging_window(count.height());
  for (const Linear& linear : head_) count.run(linear);
  return count.macs();
}

}  // namespace moat::models
