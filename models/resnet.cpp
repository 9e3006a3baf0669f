#include "models/resnet.h"

#include <cmath>
#include <string>

namespace moat::models {

using namespace engine;

namespace {

// Draws the filters of one net in order.
struct Filters {
  Init init;
  InitStream& stream;

  Tensor conv(int c_out, int kernel, int c_in, int experts) {
    const Shape shape{int64_t(c_out) * experts, kernel, kernel, c_in};
    if (init == Init::uniform)
      return init_uniform(shape, 1 / std::sqrt(double(kernel * kernel * c_in)), stream);
    const double fan_out = double(kernel) * kernel * c_out;
    const double bank = init == Init::kaiming_bank ? experts : 1;
    return init_normal(shape, std::sqrt(2 / (fan_out * bank)), stream);
  }

  Linear head(int outputs, int inputs) {
    Linear head;
    const double bound = 1 / std::sqrt(double(inputs));
    const bool uniform = init == Init::uniform;
    head.weight = uniform ? init_uniform({outputs, inputs}, bound, stream)
                          : init_normal({outputs, inputs}, 0.01, stream);
    head.bias = uniform ? init_uniform({outputs, 1}, bound, stream).reshaped({outputs})
                        : Tensor::zeros({outputs});
    return head;
  }
};

int stride_of(size_t stage, int block) { return stage > 0 && block == 0 ? 2 : 1; }

}  // namespace

ResNet::ResNet(const ResNetShape& shape, Init init, InitStream& stream) : shape_(shape) {
  require(!shape.blocks.empty() && shape.blocks.size() == shape.widths.size(),
          "a residual net needs one width per stage and at least one stage");
  Filters filters{init, stream};
  stem_.emplace(filters.conv(shape.stem_width, 3, shape.in_channels, 1), 1,
                Conv2dOptions{.stride = 1, .padding = 1});
  int c_in = shape.stem_width;
  for (size_t s = 0; s < shape.blocks.size(); ++s) {
    const int width = shape.widths[s];
    require(shape.shortcut == Shortcut::projection || width >= c_in, [&] {
      return text("a pad shortcut (option A) can only add channels, stage ", s + 1, " has ", width,
                  " after ", c_in);
    });
    auto& stage = stages_.emplace_back();
    for (int b = 0; b < shape.blocks[s]; ++b) {
      const int stride = stride_of(s, b);
      Block block{ConvNorm(filters.conv(width, 3, c_in, shape.experts), shape.experts,
                           {.stride = stride, .padding = 1}),
                  ConvNorm(filters.conv(width, 3, width, shape.experts), shape.experts,
                           {.stride = 1, .padding = 1}),
                  std::nullopt, stride, width};
      if (shape.shortcut == Shortcut::projection && (stride != 1 || c_in != width))
        block.downsample.emplace(filters.conv(width, 1, c_in, 1), 1,
                                 Conv2dOptions{.stride = stride, .padding = 0});
      stage.push_back(std::move(block));
      c_in = width;
    }
  }
  head_ = filters.head(shape.outputs, c_in);
}

Tensor ResNet::Block::forward(const Tensor& x, Mode mode, const Route* route) const {
  Tensor shortcut = x;
  if (downsample)
    shortcut = downsample->forward(x, mode, nullptr, {}, Activation::none);
  else if (stride != 1 || x.dim(3) != width)
    shortcut = subsample_pad(x, stride, width);
  const Tensor y = conv1.forward(x, mode, route, {}, Activation::relu);
  return conv2.forward(y, mode, route, shortcut, Activation::relu);
}

Tensor ResNet::forward(const Tensor& x, Mode mode, const Route* route) const {
  Tensor y = stem_->forward(x, mode, nullptr, {}, Activation::relu);
  for (const auto& stage : stages_)
    for (const Block& block : stage) y = block.forward(y, mode, route);
  return head_.forward(global_avg_pool(y));
}

void ResNet::visit(Visitor& v) {
  stem_->visit(v, "conv1", "bn1");
  for (size_t s = 0; s < stages_.size(); ++s)
    for (size_t b = 0; b < stages_[s].size(); ++b) {
      Block& block = stages_[s][b];
      const std::string at = text("layer", s + 1, ".", b, ".");
      block.conv1.visit(v, at + "conv1", at + "bn1");
      block.conv2.visit(v, at + "conv2", at + "bn2");
      if (block.downsample) block.downsample->visit(v, at + "downsample.0", at + "downsample.1");
    }
  v.child("fc", head_);
}

Macs ResNet::macs(int height, int width) const {
  Macs macs;
  int64_t h = height, w = width;
  const auto add = [&](const ConvNorm& conv) {
    const int stride = conv.options.stride;
    h = (h + stride - 1) / stride;
    w = (w + stride - 1) / stride;
    macs.all_experts += h * w * conv.filter.size();
    macs.path += h * w * conv.filter.size() / conv.experts;
  };
  add(*stem_);
  for (const auto& stage : stages_)
    for (const Block& block : stage) {
      add(block.conv1);
      add(block.conv2);
      if (block.downsample) {  // runs at the block's output size already
        macs.path += h * w * block.downsample->filter.size();
        macs.all_experts += h * w * block.downsample->filter.size();
      }
    }
  macs.path += head_.weight.size();
  macs.all_experts += head_.weight.size();
  return macs;
}

}  // namespace moat::models
