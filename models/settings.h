#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/ops/moe.h"
#include "models/net.h"
#include "models/router.h"

namespace moat::models {

// The gradient of the hard gate: of the chosen expert's raw score, or of its softmax probability.
using GateForm = engine::StraightThrough;

// What the experts of a classifier are: a filter in every convolution, the rest of the net shared
// (MoE-CNN, Zhang et al. 2023), or whole networks (Zhang et al. 2025).
enum class Experts { convolutions, networks };

// On what two models are averaged: logits, as JTDMoE is released, or probabilities, which can be
// certified. The logits of the latter are the logarithms of the averages.
enum class Average { logits, probabilities };

struct DualSettings;

// Settings of an image classifier; a row of the zoo fills them, a checkpoint's metadata holds them.
struct ClassifierSettings {
  std::string name;

  // The net by its dense widths; see NetShape. Of a dual model: nothing.
  Family family = Family::resnet;
  std::vector<int> blocks, widths;
  int stem_width = 0;
  Block block = Block::basic;
  Stem stem = Stem::cifar;
  Shortcut shortcut = Shortcut::projection;
  Transition transition = Transition::activated;
  HeadNorm head_norm = HeadNorm::batch;
  VggHead vgg_head = VggHead::cifar;
  double ratio = 1;  // the net, or an expert, has int(ratio · width) channels
  bool scaled_stem =
      true;         // false: the AdvMoE release keeps the stem of its mixtures at full width
  double kept = 1;  // share of filters kept by learned scores (sparse nets)
  TransformerShape transformer = {};  // of a vit
  Init init = Init::kaiming;          // of the others

  int experts = 1;  // 1: no router
  Experts experts_are = Experts::convolutions;
  int active = 1;  // experts per image; 1: hard, else weighted by the softmax of their scores
  GateForm gate = GateForm::softmax;  // of a hard gate
  RouterSettings router = {};

  // F_D = (1 - alpha) F_S + alpha F_R (Zhang et al. 2025).
  std::shared_ptr<const DualSettings> dual = nullptr;

  int height = 32, width = 32, channels = 3, classes = 10;
  std::vector<double> mean = {}, deviation = {};  // the normaliser, per channel; empty: 0 and 1
};

struct DualSettings {
  ClassifierSettings standard, robust;
  double alpha = 0.5;
  Average average = Average::logits;
};

// The net of a classifier, or one of its networks. Throws where `ratio` leaves a layer without
// channels.
NetShape net_shape(const ClassifierSettings& settings);

// The settings of a model made of these two, which take the same images.
ClassifierSettings dual_of(const std::string& name, const DualSettings& parts);

// The dense net of the same family and full width that a mixture, narrow or sparse net stands for.
ClassifierSettings dense_twin(ClassifierSettings settings);

}  // namespace moat::models
