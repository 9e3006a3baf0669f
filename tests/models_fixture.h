#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/random.h"
#include "models/classifier.h"

namespace moat::tests {

// A small mixture on 8x8 images with everything the large ones have.
inline models::ClassifierSettings tiny_moe(int experts) {
  models::ClassifierSettings s;
  s.name = "tiny";
  s.blocks = {1, 2};
  s.widths = {8, 16};
  s.stem_width = 8;
  s.experts = experts;
  s.ratio = 0.5;
  s.router.blocks = {1, 1};
  s.router.widths = {4, 8};
  s.height = s.width = 8;
  s.classes = 5;
  return s;
}

inline models::ClassifierSettings tiny_dense() {
  models::ClassifierSettings s = tiny_moe(1);
  s.ratio = 1;
  s.router.blocks.clear();
  s.router.widths.clear();
  return s;
}

// A small instance of every family, dense and as the mixtures it comes in.
inline std::vector<models::ClassifierSettings> small_families() {
  using namespace models;
  const ClassifierSettings routed = tiny_moe(2);
  std::vector<ClassifierSettings> all;
  const auto add = [&](const std::string& name, const ClassifierSettings& base, auto&& change) {
    ClassifierSettings s = base;
    s.name = name;
    change(s);
    all.push_back(s);
  };
  const auto wide = [](ClassifierSettings& s) { s.family = Family::wide_resnet; };
  const auto vgg = [](ClassifierSettings& s) {
    s.family = Family::vgg;
    s.blocks = {1, 2};
  };
  const auto dense = [](ClassifierSettings& s) {
    s.family = Family::densenet;
    s.blocks = {2, 2};
    s.widths = {6, 6};
  };
  const auto vit = [](ClassifierSettings& s) {
    s.family = Family::vit;
    s.blocks = {2};
    s.widths = {12};
    s.transformer.patch = 4;
    s.transformer.heads = 2;
  };
  add("resnet", tiny_dense(), [](auto&) {});
  add("moe-resnet", routed, [](auto&) {});
  add("bottleneck", tiny_dense(), [](auto& s) { s.block = Block::bottleneck; });
  add("moe-bottleneck", routed, [](auto& s) { s.block = Block::bottleneck; });
  add("wide", tiny_dense(), wide);
  add("moe-wide", routed, wide);
  add("moe-wide-raw", routed, [&](auto& s) {
    wide(s);
    s.transition = Transition::raw;
  });
  add("preact", tiny_dense(), [](auto& s) {
    s.family = Family::preact_resnet;
    s.transition = Transition::raw_shortcut;
    s.head_norm = HeadNorm::none;
  });
  add("vgg", tiny_dense(), vgg);
  add("moe-vgg", routed, vgg);
  add("densenet", tiny_dense(), dense);
  add("moe-densenet", routed, dense);
  add("sparse", tiny_dense(), [](auto& s) { s.kept = 0.5; });
  add("networks", tiny_moe(3), [](auto& s) {
    s.experts_are = Experts::networks;
    s.router.blocks = s.router.widths = {};
  });
  add("weighted-networks", tiny_moe(3), [](auto& s) {
    s.experts_are = Experts::networks;
    s.active = 2;
  });
  add("weighted-convolutions", tiny_moe(3), [](auto& s) { s.active = 3; });
  add("vit", tiny_dense(), vit);
  add("v-moe", tiny_dense(), [&](auto& s) {
    vit(s);
    s.transformer.moe.blocks = {1};
    s.transformer.moe.experts = 3;
  });
  add("dual", tiny_dense(), [&](auto& s) {
    s = dual_of(s.name, {.standard = tiny_dense(), .robust = routed, .alpha = 0.3});
  });
  add("dual-of-probabilities", tiny_dense(), [&](auto& s) {
    s = dual_of(s.name, {.standard = tiny_dense(),
                         .robust = tiny_dense(),
                         .alpha = 0.6,
                         .average = Average::probabilities});
  });
  return all;
}

inline models::ClassifierSettings small_family(const std::string& name) {
  for (const models::ClassifierSettings& s : small_families())
    if (s.name == name) return s;
  throw engine::Error("no small family " + name);
}

inline std::vector<double> doubles(const engine::Tensor& t) {
  return t.to(engine::Dtype::f64).to_vector<double>();
}

inline engine::Tensor row_numbers(int64_t n) {
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < n; ++i) rows.push_back(i);
  return engine::Tensor::from(rows, {n});
}

// Uniform pixels; image i depends on i and the stream alone.
inline engine::Tensor random_images(int64_t n, const models::ClassifierSettings& s,
                                    uint32_t stream = 0) {
  return engine::random_uniform({n, s.height, s.width, s.channels}, row_numbers(n),
                                {.purpose = engine::Purpose::test, .stream = stream}, 0, 1);
}

inline engine::Tensor random_labels(int64_t n, int classes, uint64_t seed = 0) {
  std::vector<int32_t> labels;
  for (uint32_t i = 0; i < n; ++i)
    labels.push_back(static_cast<int32_t>(engine::random_bits({.seed = seed}, i) %
                                          static_cast<uint32_t>(classes)));
  return engine::Tensor::from(labels, {n});
}

// Batch norms as after some training, not as at the start: nothing cancels by being 0 or 1.
inline void stir(models::Classifier& model) {
  uint32_t stream = 0;
  for (const engine::NamedTensor& t : engine::state_of(model)) {
    if (t.value->rank() != 1 || t.name.starts_with("normalize.")) continue;
    const double low = t.name.ends_with("bias") || t.name.ends_with("mean") ? -0.3 : 0.6;
    const int64_t n = t.value->size();
    t.value->copy_from(engine::random_uniform({n, 1}, row_numbers(n),
                                              {.seed = 9, .stream = ++stream}, low, low + 0.8)
                           .reshaped({n}));
  }
}

// Shifts the logits so that on these images no class is everyone's favourite.
inline void balance_classes(models::Classifier& model, const engine::Tensor& images) {
  const engine::Tensor average = engine::mean(model.forward(images, engine::Mode::eval).logits, 0);
  for (const engine::NamedTensor& t : engine::state_of(model))
    if (t.name == "fc.bias") t.value->copy_from(engine::sub(*t.value, average));
}

// All of a model in another number format.
inline void convert(models::Classifier& model, engine::Dtype dtype) {
  for (const engine::NamedTensor& t : engine::state_of(model)) *t.value = t.value->to(dtype);
  model.set_activations(dtype);
}

// Shifts the router's scores so that on these images and in this mode each expert's mean score is
// `push`; scores normed by their batch are balanced already.
inline void balance_router(models::Classifier& model, const engine::Tensor& images,
                           const std::vector<double>& push, engine::Mode mode) {
  using engine::Tensor;
  const bool normed = model.settings().router.score_norm;
  if (normed && mode == engine::Mode::train) return;
  for (const engine::NamedTensor& t : engine::state_of(model)) {
    if (t.name != (normed ? "router.score_norm.running_mean" : "router.fc.bias")) continue;
    const Tensor scores = model.forward(images, mode).scores;
    Tensor scale = Tensor::full({static_cast<int64_t>(push.size())}, 1);
    for (const engine::NamedTensor& v : engine::state_of(model))
      if (v.name == "router.score_norm.running_var") scale = *v.value;
    for (int64_t e = 0; e < scores.dim(1); ++e) {
      double mean = 0;
      for (int64_t i = 0; i < scores.dim(0); ++i)
        mean += scores.data_as<float>()[i * scores.dim(1) + e] / double(scores.dim(0));
      const double shift = push[static_cast<size_t>(e)] - mean;
      t.value->data_as<float>()[e] += static_cast<float>(
          normed ? -shift * std::sqrt(double(scale.data_as<float>()[e])) : shift);
    }
    t.value->mark_written();
  }
}

}  // namespace moat::tests
