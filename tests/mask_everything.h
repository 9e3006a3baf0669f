#pragma once

#include <map>
#include <string>

#include "models/classifier.h"

namespace moat::tests {

// The other way to run a MoE-CNN, the oracle of the sorted one: every convolution computes the
// filters of all experts for all images, in the batch's own order, a 0/1 mask keeps the channels of
// each image's expert, and the batch norm stays a layer of its own. Plain ops over copies of a
// classifier's tensors; it knows the classifier by its tensors' names alone.
class MaskEverything {
 public:
  explicit MaskEverything(models::Classifier& model);

  models::Prediction forward(const engine::Tensor& images, engine::Mode mode,
                             models::GateGradient gradient) const;

  std::map<std::string, engine::Tensor> tensors;  // by name; watch them to differentiate

 private:
  struct Unit {  // one convolution with its batch norm
    std::string conv, norm;
    int stride = 1, padding = 1, experts = 1;
  };
  struct Chosen {  // what the router said
    engine::Tensor experts, gate;
  };
  const engine::Tensor& at(const std::string& name) const;
  engine::Tensor normed(const std::string& norm, const engine::Tensor& x, engine::Mode mode) const;
  engine::Tensor run(const Unit& unit, const engine::Tensor& x, engine::Mode mode,
                     const Chosen& chosen) const;
  engine::Tensor net(const std::string& prefix, const std::vector<int>& blocks, int experts,
                     const engine::Tensor& x, engine::Mode mode, const Chosen& chosen) const;

  models::ClassifierSettings settings_;
};

}  // namespace moat::tests
