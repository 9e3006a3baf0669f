#include "models/vgg.h"

#include <string>

#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

namespace {
// Side of the maps that the first linear layer sees, and its units.
int side_of(VggHead form) { return form == VggHead::cifar ? 2 : 7; }
int hidden_of(VggHead form) { return form == VggHead::cifar ? 256 : 4096; }

// The window that averages the last maps to side_of(form).
int averaging_window(VggHead form, int64_t height, int64_t width) {
  const int side = side_of(form);
  require(height == width && height >= side && height % side == 0, [&] {
    return text("a VGG averages its last maps to ", side, "x", side,
                ", which needs squares of a side divisible by ", side, ", got ", height, "x", width,
                "; take square images of a side divisible by ", form == VggHead::cifar ? 32 : 224);
  });
  return to_int(height) / side;
}

Tensor run(const Linear& linear, const Tensor& x) { return linear.forward(x); }
Bounds run(const Linear& linear, const Bounds& x) { return bounds(linear, x); }
}  // namespace

Vgg::Vgg(const NetShape& shape, Init init, InitStream& stream) : form_(shape.vgg_head) {
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
  const int side = side_of(form_), hidden = hidden_of(form_);
  for (const auto& [outputs, inputs] :
       {std::pair{hidden, c_in * side * side}, std::pair{hidden, hidden},
        std::pair{shape.outputs, hidden}})
    head_.push_back(make.linear(outputs, inputs));
}

template <class X, class How>
X Vgg::wired(const X& x, const How& how) const {
  X y = x;
  for (const auto& stage : stages_) {
    if (&stage != &stages_.front()) y = max_pool2d(y, 2, 2, 0);
    for (const ConvLayer& conv : stage) y = run(conv, y, how, {}, Activation::relu);
  }
  if (form_ == VggHead::imagenet) y = max_pool2d(y, 2, 2, 0);
  const int window = averaging_window(form_, y.dim(1), y.dim(2));
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
  if (form_ == VggHead::imagenet) count.pool(2, 2, 0);
  averaging_window(form_, count.height(), count.width());
  for (const Linear& linear : head_) count.run(linear);
  return count.macs();
}

}  // namespace moat::models
