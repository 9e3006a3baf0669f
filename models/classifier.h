#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/nn/layers.h"
#include "models/resnet.h"

namespace moat::models {

// The gradient of the hard gate: of the chosen expert's raw score, or of its softmax probability.
using GateForm = engine::StraightThrough;

// Whether an input gradient also flows through the gate into the router, or is cut there. The route
// itself is always chosen by the current input.
enum class GateGradient { open, blocked };

// Settings of an image classifier; a row of the zoo fills them, a checkpoint's metadata holds them.
struct ClassifierSettings {
  std::string name;
  std::vector<int> blocks, widths;  // widths of the dense net; an expert has int(ratio · width)
  int stem_width = 0;               // of the dense net
  int experts = 1;                  // 1: a dense net of width ratio · widths
  double ratio = 1;
  Shortcut shortcut = Shortcut::projection;
  GateForm gate = GateForm::softmax;
  bool scaled_stem = true;  // false: the AdvMoE release keeps the stem at full width
  Init init = Init::kaiming;
  std::vector<int> router_blocks, router_widths;  // empty for a dense net
  bool score_norm = true;  // batch norm without affine on the router's scores
  int height = 32, width = 32, channels = 3, classes = 10;
  std::vector<double> mean, deviation;  // the normaliser, per channel; empty: 0 and 1
};

// The two nets of a classifier; the second of a routed one only.
ResNetShape net_shape(const ClassifierSettings& settings);
ResNetShape router_shape(const ClassifierSettings& settings);

struct Prediction {
  engine::Tensor logits;   // [n, classes]
  engine::Tensor scores;   // [n, experts]; undefined for a dense net
  engine::Tensor experts;  // int32 [n]; undefined for a dense net
};

// Pixels in [0,1] -> logits: normaliser, then a dense net, or a router that picks one expert per
// image and a net whose convolutions hold one filter per expert (MoE-CNN, Zhang et al. 2023). The
// batch is sorted by expert once, each expert runs as a narrow dense net on its segment, and the
// order of the logits is restored at the end.
class Classifier : public engine::Module {
 public:
  // Drawn on the CPU and moved: the same weights on every device.
  Classifier(const ClassifierSettings& settings, uint64_t seed, engine::Device device = {});

  Prediction forward(const engine::Tensor& images, engine::Mode mode,
                     GateGradient gate = GateGradient::open) const;
  // As above along a given route: experts int32 [n].
  engine::Tensor forward_along(const engine::Tensor& images, const engine::Tensor& experts,
                               engine::Mode mode) const;

  void visit(engine::Visitor& v) override;
  const ClassifierSettings& settings() const { return settings_; }
  bool is_routed() const { return router_.has_value(); }
  engine::Device device() const { return mean_.device(); }

  // Parameters of the router and of everything else, the two levels of AdvMoE.
  std::vector<engine::NamedTensor> router_parameters();
  std::vector<engine::NamedTensor> expert_parameters();

  struct Cost {
    int64_t path = 0, router = 0, all_experts = 0;  // multiply-accumulates of one image
    int64_t executed() const { return path + router; }
  };
  Cost cost() const;

  // Number format of activations: f32, or bf16 with float32 weights, scores and logits.
  engine::Dtype activations = engine::Dtype::f32;

 private:
  engine::Tensor normalized(const engine::Tensor& images) const;
  engine::Tensor scores_of(const engine::Tensor& x, engine::Mode mode) const;
  engine::Tensor logits_along(const engine::Tensor& x, const engine::Tensor& experts,
                              const engine::Tensor& gate, engine::Mode mode) const;

  ClassifierSettings settings_;
  engine::Tensor mean_, deviation_;  // [channels]
  std::optional<ResNet> router_;
  std::optional<engine::BatchNorm> score_norm_;
  std::optional<ResNet> net_;
};

}  // namespace moat::models
