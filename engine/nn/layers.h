#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/nn/init.h"
#include "engine/nn/module.h"
#include "engine/ops/moe.h"
#include "engine/ops/norm.h"
#include "engine/ops/vision.h"

namespace moat::engine {

// train: batch norm uses and updates batch statistics. eval: running statistics, folded into the
// convolution in front of it whenever no parameter is being differentiated (evaluation and
// attacks).
enum class Mode { train, eval };

// The image-level route of one forward pass: the batch is sorted by expert, and `gate` [rows] (or
// undefined when the gate's gradient is blocked) multiplies every expert convolution.
struct Route {
  Segments segments;
  Tensor gate;
};

struct BatchNorm : Module {
  Tensor weight, bias;  // undefined for a norm without affine
  Tensor running_mean, running_var;
  BatchNormOptions options;

  enum class Affine { yes, no };
  explicit BatchNorm(int channels, Affine affine = Affine::yes);
  // activation(norm(x) + residual): x [..., channels] -> the same; residual like x or undefined. In
  // Mode::train it updates the running statistics, which eval reads. Throws as batch_norm_train
  // does.
  Tensor forward(const Tensor& x, Mode mode, const Tensor& residual = {},
                 Activation activation = Activation::none) const;
  void visit(Visitor& v) override;
};

struct Linear : Module {
  Tensor weight, bias;  // [out, in], [out]
  // x [rows, in] -> x · weightᵀ + bias + residual, [rows, out]; residual of that shape or
  // undefined. Throws as linear() does.
  Tensor forward(const Tensor& x, const Tensor& residual = {}) const;
  void visit(Visitor& v) override;
};

// How many of a convolution's filters count: those of the largest scores (Sehwag et al. 2020,
// HYDRA, with whole filters in place of weights).
struct FilterChoice {
  Tensor scores;  // [c_out], trained; undefined when all filters count
  int kept = 0;
};

// A convolution and what follows it: batch norm unless there is none, optional residual,
// activation. With experts > 1 the filter bank holds one filter per expert and forward() needs a
// route.
class ConvLayer {
 public:
  Tensor filter;  // [experts · width, r, s, c_in]
  std::optional<BatchNorm> norm;
  Conv2dOptions options;
  int experts = 1;
  FilterChoice choice;  // of a layer with one expert

  enum class Norm { batch, none };
  ConvLayer(Tensor filter_bank, int expert_count, const Conv2dOptions& conv_options,
            Norm followed_by = Norm::batch);

  // x [n, h, w, c_in] -> activation(norm(conv(x)) + residual), [n, h', w', width]; residual of that
  // shape or undefined. With a route x is sorted by expert. Throws when several experts have none,
  // and as conv2d and the norm do.
  Tensor forward(const Tensor& x, Mode mode, const Route* route, const Tensor& residual,
                 Activation activation) const;
  // The filter with zeros for what does not count.
  Tensor chosen_filter() const;
  // The scores are named conv_name.scores; a layer without a norm ignores norm_name.
  void visit(Visitor& v, const std::string& conv_name, const std::string& norm_name);

 private:
  bool is_constant() const;
  const PackedConv2d& packed(int height, int width, Dtype dtype) const;

  // Derived from the tensors above and rebuilt whenever one of them has been written.
  struct Folded {
    std::vector<uint64_t> versions;
    PackedConv2d packed;
  };
  mutable Folded folded_;
};

}  // namespace moat::engine
