#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "train/config.h"

namespace moat::train {

// A preset is another one (or the defaults) and the settings in which it differs.
struct Recipe {
  std::string family;
  PresetRow row;
  std::string from;
  std::vector<std::string> settings;
};

// A data set, and what all runs on it share.
struct PresetData {
  std::string name, family;
  std::vector<std::string> settings;
};
const PresetData& preset_data(const std::string& name);

// "cifar10-at" of "cifar10", "" and "at".
std::string joined(std::initializer_list<std::string> words);

std::vector<std::string> together(std::initializer_list<std::vector<std::string>> parts);

// A -short run takes batches of 512 and is meant to train in five of an H200's ten minutes, in
// bfloat16; the rest is for its start, its validations and its evaluation. Where even one epoch
// would not fit, it takes the first images. What the lengths follow from
// (bench/results/2026-11-26-h200-pytorch.json, batches of 512): a multiply-accumulate of an image
// takes 6.4 us / G in a dense net (resnet18-at-step: 42.0 ms, 23 passes of 0.555 G) and 15.6 us / G
// in an MoE-CNN (moe-resnet18-at-step: 33.1 ms, 23 of 0.180 G; advmoe-iteration: 76.5 ms, 54). A
// pass is a forward pass, or as much work. Steps have become faster since, by 12 % and, of
// transformers, twice (2026-11-27-h200-steps.json); no -short run has been timed as a whole.
struct ShortLength {
  int epochs;
  int64_t limit;  // training images, and validation images, 0 = all
  std::vector<std::string> learning_rate;
};

// The run and, behind it, its -short form.
void add_with_short(std::vector<Recipe>& to, const Recipe& full, const ShortLength& length);

std::vector<Recipe> digits_recipes();    // each method in two minutes of two cores; the demo
std::vector<Recipe> cnn_recipes();       // AdvMoE (Zhang et al. 2023, arXiv 2308.10110)
std::vector<Recipe> networks_recipes();  // RT-ER and JTDMoE (Zhang et al. 2025, arXiv 2502.06832)
std::vector<Recipe> v_moe_recipes();     // Puigcerver et al. 2022, arXiv 2210.10253

}  // namespace moat::train
