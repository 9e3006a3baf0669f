#include "models/name_map.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"
#include "models/name_rules.h"
#include "models/zoo.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using namespace models;

namespace {

constexpr const char* kFile = "theirs.safetensors";

// The zoo's row, small: every family, stem and mixture with few blocks of few channels.
ClassifierSettings shrunk(ClassifierSettings s) {
  s.name = "small " + s.name;
  const bool is_vit = s.family == Family::vit;
  for (int& blocks : s.blocks) blocks = is_vit ? 4 : std::min(blocks, 2);
  for (int& width : s.widths) width = is_vit ? 12 : 6;
  s.stem_width = is_vit ? 12 : 6;
  s.transformer.heads = 3;
  auto& mixtures = s.transformer.moe.blocks;
  std::erase_if(mixtures, [](int block) { return block >= 4; });
  for (int& width : s.router.widths) width = 4;
  s.classes = 7;
  s.mean = std::vector<double>(static_cast<size_t>(s.channels), 0.3);
  s.deviation = std::vector<double>(static_cast<size_t>(s.channels), 0.2);
  return s;
}

SafeTensors exported(const ClassifierSettings& s, const std::string& project) {
  Classifier model(s, 4);
  stir(model);
  return export_as(model, find_project(project));
}

ClassifierSettings tiny(Family family) {
  for (const ClassifierSettings& s : small_families())
    if (s.family == family && s.experts == 1 && !s.dual && s.kept == 1 &&
        s.transformer.moe.blocks.empty())
      return s;
  throw Error("no such family");
}

Imported import_all(const SafeTensors& file, const ClassifierSettings& s,
                    const std::string& project = "auto") {
  return import_model(file, s, project, kFile);
}

std::string error_of(const SafeTensors& file, const ClassifierSettings& s,
                     const std::string& project = "auto") {
  try {
    import_all(file, s, project);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("names: a pattern holds numbers and texts", "[name-map]") {
  CHECK(renamed("layer2.13.shortcut.0.weight", "layer#.#.shortcut.*", "layer#.#.downsample.*") ==
        "layer2.13.downsample.0.weight");
  CHECK(renamed("linear.weight", "linear.*", "fc.*") == "fc.weight");
  CHECK(renamed("bn1.num_batches_tracked", "*num_batches_tracked", "") == "");
  CHECK(renamed("layerx.0.shortcut.0", "layer#.#.shortcut.*", "a#b#c*") == std::nullopt);
  CHECK(renamed("linear", "linear.*", "fc.*") == std::nullopt);
  CHECK(renamed("linear.weight2", "linear.weight", "fc.weight") == std::nullopt);
  CHECK(renamed("", "*", "x*") == "x");
}

TEST_CASE("names: each rule is its own inverse", "[name-map]") {
  for (const NameRule& rule : name_rules()) {
    if (rule.ours.empty()) continue;
    std::string theirs;
    for (char c : rule.theirs) theirs += c == '#' ? "7" : c == '*' ? "rest" : std::string(1, c);
    INFO(rule.theirs);
    const auto ours = renamed(theirs, rule.theirs, rule.ours);
    REQUIRE(ours);
    CHECK(renamed(*ours, rule.ours, rule.theirs) == theirs);
  }
}

TEST_CASE("import gives back what export wrote, for every row of the zoo", "[name-map]") {
  int trips = 0;
  for (const ZooRow& row : zoo()) {
    const ClassifierSettings s = shrunk(row.settings);
    Classifier model(s, 4);
    stir(model);
    for (const Project& project : projects()) {
      if (!can_export(s, project)) continue;
      INFO(row.settings.name << " as " << project.name);
      const SafeTensors file = export_as(model, project);
      ClassifierSettings as = s;
      as.mean = as.deviation = {};
      as.classes = 10;
      for (const std::string& map : {project.name, std::string("auto")}) {
        Imported back = import_all(file, as, map);
        CHECK(fingerprint(back.model) == fingerprint(model));
        CHECK(architecture_json(back.model.settings()) == architecture_json(s));
        ++trips;
      }
    }
  }
  CHECK(trips > 2 * static_cast<int>(zoo().size()));
}

TEST_CASE("import finds out whose names a file has", "[name-map]") {
  const auto found = [](const ClassifierSettings& s, const std::string& project) {
    return import_all(exported(s, project), s).project;
  };
  CHECK(found(tiny(Family::resnet), "robustbench") == "robustbench");
  CHECK(found(tiny(Family::preact_resnet), "robustbench") == "robustbench");
  CHECK(found(tiny(Family::vgg), "torchvision") == "torchvision");
  ClassifierSettings flax = tiny(Family::vit);
  flax.transformer.activation = ExpertActivation::gelu_tanh;
  CHECK(found(flax, "v-moe") == "v-moe");
}

TEST_CASE("export: names and layouts of other projects", "[name-map]") {
  const auto shape = [](const SafeTensors& file, const std::string& name) {
    INFO(name);
    REQUIRE(file.tensors.contains(name));
    return file.tensors.at(name).shape();
  };
  const SafeTensors bench = exported(tiny(Family::resnet), "robustbench");
  CHECK(shape(bench, "linear.weight") == Shape{5, 16});
  CHECK(shape(bench, "layer2.0.shortcut.0.weight") == Shape{16, 8, 1, 1});
  CHECK(!bench.tensors.contains("normalize.mean"));
  const SafeTensors wide = exported(tiny(Family::wide_resnet), "robustbench");
  CHECK(shape(wide, "fc.weight") == Shape{5, 16});
  CHECK(shape(wide, "block2.layer.0.convShortcut.weight") == Shape{16, 8, 1, 1});
  ClassifierSettings preact = tiny(Family::preact_resnet);
  CHECK(!exported(preact, "robustbench").tensors.contains("bn.weight"));
  preact.head_norm = HeadNorm::batch;
  const SafeTensors preacts = exported(preact, "robustbench");
  CHECK(shape(preacts, "bn.running_mean") == Shape{16});
  CHECK(shape(preacts, "linear.weight") == Shape{5, 16});
  CHECK(shape(preacts, "conv1.weight") == Shape{8, 3, 3, 3});
  CHECK(shape(preacts, "layer1.0.bn1.weight") == Shape{8});
  CHECK(shape(preacts, "layer2.0.shortcut.0.weight") == Shape{16, 8, 1, 1});
  CHECK(shape(preacts, "layer2.1.conv2.weight") == Shape{16, 16, 3, 3});
  for (const auto& [name, t] : preacts.tensors) {
    INFO(name);
    CHECK(!name.starts_with("block"));
  }
  CHECK(shape(exported(tiny(Family::vgg), "torchvision"), "classifier.6.weight") == Shape{5, 256});

  ClassifierSettings s = tiny(Family::vit);
  s.transformer.activation = ExpertActivation::gelu_tanh;
  s.transformer.moe = {.blocks = {1}, .experts = 3};
  const SafeTensors flax = exported(s, "v-moe");
  const std::string block = "Encoder.encoderblock_1.";
  CHECK(shape(flax, block + "SelfAttention.key.kernel") == Shape{12, 2, 6});
  CHECK(shape(flax, block + "SelfAttention.value.bias") == Shape{2, 6});
  CHECK(shape(flax, block + "SelfAttention.out.kernel") == Shape{2, 6, 12});
  CHECK(shape(flax, block + "Moe.Router.dense.kernel") == Shape{12, 3});
  CHECK(shape(flax, block + "Moe.Mlp.Dense_0.kernel") == Shape{3, 12, 48});
  CHECK(shape(flax, "Encoder.encoderblock_0.Mlp.Dense_0.kernel") == Shape{12, 48});
  CHECK(shape(flax, "embedding.kernel") == Shape{4, 4, 3, 12});

  ClassifierSettings mixture = tiny_moe(3);
  mixture.experts_are = Experts::networks;
  mixture.router.blocks = mixture.router.widths = {};
  const SafeTensors rt_er = exported(mixture, "rt-er");
  CHECK(shape(rt_er, "router.gate.weight") == Shape{3, 3 * 8 * 8});
  CHECK(shape(rt_er, "router.gate.bias") == Shape{3});
  CHECK(shape(rt_er, "experts.2.net.linear.bias") == Shape{5});
  CHECK(rt_er.tensors.contains("experts.0.net.conv1.weight"));
  CHECK(rt_er.tensors.contains("experts.1.net.layer2.0.shortcut.1.running_var"));
  for (const auto& [name, t] : rt_er.tensors) {
    INFO(name);
    CHECK(name.starts_with("experts.") == (name.find(".net.") != name.npos));
  }
  ClassifierSettings transformers = tiny(Family::vit);
  transformers.experts = 3;
  transformers.experts_are = Experts::networks;
  const SafeTensors of_vits = exported(transformers, "rt-er");
  CHECK(shape(of_vits, "experts.2.vit.blocks.0.attn.qkv.weight") == Shape{36, 12});
  CHECK(shape(of_vits, "experts.0.vit.head.bias") == Shape{5});
  // A half of a dual model.
  SafeTensors half;
  for (const auto& [name, t] : of_vits.tensors) half.tensors["module.Rmoe." + name] = t;
  CHECK(import_all(half, transformers).project == "rt-er");
}

// The layouts by their elements, in plain loops.
TEST_CASE("export: elements lie where the other project has them", "[name-map]") {
  ClassifierSettings s = tiny(Family::vit);
  s.transformer.activation = ExpertActivation::gelu_tanh;
  s.transformer.moe = {.blocks = {1}, .experts = 3};
  Classifier model(s, 4);
  SafeTensors own;
  store(model, "", own);
  const SafeTensors flax = export_as(model, find_project("v-moe"));
  const auto at = [](const SafeTensors& file, const std::string& name,
                     const std::vector<int64_t>& index) {
    const Tensor t = file.tensors.at(name).contiguous();
    int64_t place = 0;
    for (int axis = 0; axis < t.rank(); ++axis)
      place = place * t.dim(axis) + index.at(static_cast<size_t>(axis));
    return t.data_as<float>()[place];
  };
  const int64_t heads = 2, d = 6, width = 12;
  const std::string block = "Encoder.encoderblock_1.";
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t j = 0; j < d; ++j)
      for (int64_t i = 0; i < width; ++i) {
        CHECK(at(flax, block + "SelfAttention.key.kernel", {i, h, j}) ==
              at(own, "blocks.1.attn.qkv.weight", {width + h * d + j, i}));
        CHECK(at(flax, block + "SelfAttention.out.kernel", {h, j, i}) ==
              at(own, "blocks.1.attn.proj.weight", {i, h * d + j}));
      }
  for (int64_t e = 0; e < 3; ++e)
    CHECK(at(flax, block + "Moe.Mlp.Dense_1.kernel", {e, 47, 5}) ==
          at(own, "blocks.1.moe.experts.fc2.weight", {e, 5, 47}));
  CHECK(at(flax, "embedding.kernel", {1, 3, 2, 11}) ==
        at(own, "patch_embed.proj.weight", {11, 2, 1, 3}));
}

TEST_CASE("import: wrappers, counters, halves and normalisers", "[name-map]") {
  const ClassifierSettings s = tiny(Family::wide_resnet);
  const SafeTensors plain = exported(s, "robustbench");
  SafeTensors wrapped;
  wrapped.tensors["normalize.mean"] =
      Tensor::from(std::vector<float>{0.1F, 0.2F, 0.3F}, {1, 3, 1, 1});
  wrapped.tensors["normalize.std"] =
      Tensor::from(std::vector<float>{0.4F, 0.5F, 0.6F}, {1, 3, 1, 1});
  for (const auto& [name, t] : plain.tensors)
    wrapped.tensors["module.model." + name] = t.to(Dtype::f64);
  wrapped.tensors["module.model.bn1.num_batches_tracked"] = Tensor::zeros({}, Dtype::i64);
  wrapped.tensors["module.model.sub_block1.layer.0.bn1.weight"] = Tensor::zeros({3});
  Imported got = import_all(wrapped, s);
  CHECK(got.project == "robustbench");
  CHECK(got.unused == std::vector<std::string>{"module.model.sub_block1.layer.0.bn1.weight"});
  CHECK(got.model.settings().mean.at(1) == Approx(0.2));
  CHECK(got.model.settings().deviation.at(2) == Approx(0.6));

  ClassifierSettings given = s;
  given.mean = {0.7, 0.7, 0.7};
  given.deviation = {0.9, 0.9, 0.9};
  CHECK(import_all(wrapped, given).model.settings().mean.at(1) == 0.7);
  wrapped.tensors.erase("normalize.std");
  given.deviation = {};
  for (const char* torn : {"[0.4, 0.5", "0.4", "[0.4, \"0.5\", 0.6]"}) {  // was no deviation at all
    wrapped.metadata["normalize.std"] = torn;
    CHECK_THAT(error_of(wrapped, given),
               Catch::StartsWith("theirs.safetensors: normalize.std: must"));
  }
  given.deviation = {0.9, 0.9, 0.9};
  given.deviation = {0.9, 1e-50, 0.9};  // 0 in float32
  CHECK_THAT(error_of(wrapped, given),
             Catch::Contains("'normalize.std' must be finite and above 0"));
  given.deviation = {0.9, 0.9, 0.9};
  given.mean = {0.7};
  CHECK_THAT(error_of(wrapped, given), Catch::Contains("for each of 3 channels, got 1"));
}

TEST_CASE("import: the biases of a VGG's convolutions change nothing", "[name-map]") {
  const ClassifierSettings s = tiny(Family::vgg);
  SafeTensors file = exported(s, "torchvision");
  const Tensor images = random_images(2, s);
  Imported plain = import_all(file, s);
  const auto before = plain.model.forward(images, Mode::eval).logits.to_vector<float>();
  for (const char* place : {"features.0.bias", "features.4.bias"}) {
    const std::string conv = place;
    const int norm = conv[9] - '0' + 1;
    Tensor& mean = file.tensors.at(text("features.", norm, ".running_mean"));
    mean = add(mean, Tensor::full(mean.shape(), 0.25));
    file.tensors[conv] = Tensor::full(mean.shape(), 0.25);
  }
  Imported biased = import_all(file, s);
  const auto after = biased.model.forward(images, Mode::eval).logits.to_vector<float>();
  for (size_t i = 0; i < before.size(); ++i) CHECK(after[i] == Approx(before[i]).margin(1e-5));
}

TEST_CASE("import: one line says what does not fit", "[name-map]") {
  const ClassifierSettings s = tiny(Family::resnet);
  SafeTensors file = exported(s, "robustbench");
  file.tensors["layer1.0.bn3.weight"] = file.tensors.extract("layer1.0.bn1.weight").mapped();
  CHECK_THAT(error_of(file, s),
             Catch::StartsWith("theirs.safetensors: by the names of robustbench, ") &&
                 Catch::Contains("misses layer1.0.bn1.weight (nearest: layer1.0.bn3.weight)") &&
                 Catch::Contains("1 left over: layer1.0.bn3.weight"));

  file = exported(s, "robustbench");
  file.tensors["fc.weight"] = file.tensors.at("linear.weight");
  CHECK_THAT(error_of(file, s, "robustbench"), Catch::Contains("are both the tensor 'fc.weight'"));

  file = exported(s, "robustbench");
  file.tensors["bn1.weight"] = Tensor::zeros({3});
  CHECK_THAT(error_of(file, s),
             Catch::Contains("'bn1.weight' must be float32 [8], got float32 [3]"));

  for (const double value : {std::nan(""), 1e300}) {
    file = exported(s, "robustbench");
    file.tensors["module.bn1.running_var"] =
        Tensor::full(file.tensors.extract("bn1.running_var").mapped().shape(), value, Dtype::f64);
    CHECK_THAT(error_of(file, s),
               Catch::Contains("'module.bn1.running_var' must be finite in float32, 8 of its 8"));
  }
  const ClassifierSettings bare = tiny(Family::preact_resnet);
  ClassifierSettings normed = bare;
  normed.head_norm = HeadNorm::batch;
  CHECK_THAT(error_of(exported(bare, "robustbench"), normed), Catch::Contains("misses bn1.bias"));
  CHECK_THAT(error_of(exported(normed, "robustbench"), bare),
             Catch::Contains("4 left over: bn.bias"));

  CHECK_THAT(error_of(exported(s, "robustbench"), s, "torchvision"),
             Catch::Contains("by the names of torchvision"));
  CHECK_THAT(error_of(exported(s, "robustbench"), find_model("resnet18").settings),  // far larger
             Catch::Contains("misses layer1.1.bn1.bias"));
  CHECK_THROWS_WITH(import_all(file, s, "robustbenhc"),
                    Catch::Contains("did you mean robustbench?"));

  SafeTensors timm = exported(tiny(Family::vit), "timm");
  timm.tensors["fc_norm.weight"] = timm.tensors.extract("norm.weight").mapped();
  timm.tensors["fc_norm.bias"] = timm.tensors.extract("norm.bias").mapped();
  CHECK_THAT(error_of(timm, tiny(Family::vit)), Catch::Contains("global_pool='token'"));

  Classifier wide(tiny(Family::wide_resnet), 0);
  CHECK_THROWS_WITH(export_as(wide, find_project("torchvision")),
                    Catch::Contains("its names can be those of moat or robustbench"));
}

TEST_CASE("export: no net that the project has not", "[name-map]") {
  const auto projects_of = [](const ClassifierSettings& s) {
    std::vector<std::string> names;
    for (const Project& project : projects())
      if (can_export(s, project)) names.push_back(project.name);
    return names;
  };
  using Names = std::vector<std::string>;
  const Names own = {"moat"};
  CHECK(projects_of(tiny(Family::resnet)) == Names{"moat", "torchvision", "robustbench"});
  for (const ClassifierSettings& s : small_families()) {
    INFO(s.name);
    if (s.kept < 1 || (s.experts > 1 && s.experts_are == Experts::convolutions))
      CHECK(projects_of(s) == own);
  }
  ClassifierSettings padded = tiny(Family::resnet);
  padded.shortcut = Shortcut::pad;
  CHECK(projects_of(padded) == own);
  ClassifierSettings tokens = tiny(Family::vit);
  tokens.transformer.moe = {.blocks = {1}, .experts = 3};
  CHECK(projects_of(tokens) == own);
  tokens.transformer.activation = ExpertActivation::gelu_tanh;
  CHECK(projects_of(tokens) == Names{"moat", "v-moe"});
  tokens.transformer.moe = {};
  CHECK(projects_of(tokens) == Names{"moat", "v-moe"});
  CHECK(projects_of(tiny(Family::vit)) == Names{"moat", "timm"});
  ClassifierSettings bank = tiny(Family::resnet);
  bank.experts = 3;
  bank.experts_are = Experts::networks;
  CHECK(projects_of(bank) == Names{"moat", "rt-er"});
}

TEST_CASE("import: torchvision's VGG-16 of ImageNet, narrow", "[name-map]") {
  ClassifierSettings s = find_model("vgg16-imagenet").settings;
  s.stem_width = 2;
  s.widths = {2, 2, 3, 3, 3};
  const SafeTensors file = exported(s, "torchvision");
  CHECK(file.tensors.at("features.40.weight").shape() == Shape{3, 3, 3, 3});
  CHECK(file.tensors.at("classifier.0.weight").shape() == Shape{4096, 3 * 7 * 7});
  CHECK(file.tensors.at("classifier.6.weight").shape() == Shape{1000, 4096});
  const Imported back = import_all(file, s);
  CHECK(back.project == "torchvision");
  CHECK(back.model.settings().vgg_head == VggHead::imagenet);
}

}  // namespace moat::tests
