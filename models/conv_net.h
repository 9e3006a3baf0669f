#pragma once

#include "models/net.h"

namespace moat::models {

// A layer's forward pass on a batch, or its bounds on boxes of images: what the wiring of a net,
// written once for both, calls. `How` is Pass for tensors, ExpertPath for intervals.
engine::Tensor run(const engine::ConvLayer& layer, const engine::Tensor& x, const Pass& pass,
                   const engine::Tensor& residual, engine::Activation activation);
engine::Bounds run(const engine::ConvLayer& layer, const engine::Bounds& x, const ExpertPath& path,
                   const engine::Bounds& residual, engine::Activation activation);
engine::Tensor run(const engine::BatchNorm& norm, const engine::Tensor& x, const Pass& pass,
                   engine::Activation activation);
engine::Bounds run(const engine::BatchNorm& norm, const engine::Bounds& x, const ExpertPath&,
                   engine::Activation activation);

// Draws the layers of one convolutional net in order.
class LayerMaker {
 public:
  LayerMaker(const NetShape& shape, Init init, engine::InitStream& stream)
      : shape_(shape), init_(init), stream_(stream) {}

  using Norm = engine::ConvLayer::Norm;
  struct Window {
    int kernel = 3, stride = 1;  // padded by kernel / 2
  };
  // With one filter per expert and, in a sparse net, scores.
  engine::ConvLayer routed(int c_out, int c_in, Window window, Norm norm = Norm::batch);
  // One filter for all.
  engine::ConvLayer shared(int c_out, int c_in, Window window, Norm norm = Norm::batch);
  engine::Linear linear(int outputs, int inputs);

 private:
  engine::Tensor filter(int c_out, int c_in, int kernel, int experts);
  const NetShape& shape_;
  Init init_;
  engine::InitStream& stream_;
};

// The first layers of a residual net.
class StemLayers {
 public:
  StemLayers(const NetShape& shape, LayerMaker& make, engine::ConvLayer::Norm norm);
  template <class X, class How>  // Tensor, Pass or Bounds, ExpertPath
  X forward(const X& x, const How& how) const;
  void visit(engine::Visitor& v) { conv.visit(v, "conv1", "bn1"); }

  engine::ConvLayer conv;

 private:
  Stem stem_;
};

// Adds up a net's multiply-accumulates along the path of an image's maps.
class MacCounter {
 public:
  MacCounter(int height, int width) : height_(height), width_(width) {}

  void run(const engine::ConvLayer& conv);           // the maps become its outputs
  void beside(const engine::ConvLayer& projection);  // of maps that have its output's size already
  void run(const engine::Linear& linear);
  void stem(const StemLayers& stem, Stem form);
  void pool(int window, int stride, int padding);
  int height() const { return height_; }
  int width() const { return width_; }
  Macs macs() const { return macs_; }

 private:
  void add(const engine::ConvLayer& conv);
  int height_, width_;
  Macs macs_;
};

}  // namespace moat::models
