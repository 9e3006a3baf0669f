#include "models/checkpoint.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/ops/shape.h"
#include "tests/models_fixture.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;
using nlohmann::ordered_json;

namespace {

// The error that `action` ends in; it must be one line.
template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    const std::string what = error.what();
    CHECK(what.find('\n') == what.npos);
    CHECK(what.size() < 400);
    return what;
  }
  return "no error";
}

ClassifierSettings with_normaliser(ClassifierSettings s) {
  s.mean = {0.1, 0.2, 0.3};
  s.deviation = {0.4, 0.5, 0.6};
  return s;
}

}  // namespace

TEST_CASE("checkpoint: what was saved comes back bit for bit", "[checkpoint]") {
  ClassifierSettings padded = tiny_moe(3);
  padded.shortcut = models::Shortcut::pad;
  padded.gate = models::GateForm::raw;
  padded.router.score_norm = false;
  ClassifierSettings wide_stem = tiny_moe(2);
  wide_stem.scaled_stem = false;
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.safetensors";
  for (const ClassifierSettings& s :
       {with_normaliser(tiny_dense()), with_normaliser(tiny_moe(2)), padded, wide_stem}) {
    Classifier model(s, 4);
    stir(model);
    write_safetensors(file, models::to_file(model, {{"epoch", "7"}}));
    models::LoadedModel loaded = models::load_model(file);
    CHECK(loaded.metadata.at("epoch") == "7");
    CHECK(models::architecture_json(loaded.model.settings()) == models::architecture_json(s));
    CHECK(fingerprint(loaded.model) == fingerprint(model));
    const Tensor x = random_images(9, s);
    const models::Prediction before = model.forward(x, Mode::eval),
                             after = loaded.model.forward(x, Mode::eval);
    CHECK(after.logits.to_vector<float>() == before.logits.to_vector<float>());
    if (s.experts > 1)
      CHECK(after.experts.to_vector<int32_t>() == before.experts.to_vector<int32_t>());
    CHECK(loaded.model.settings().mean == [&] {
      return std::vector<double>(s.mean.size() ? std::vector<double>{0.1f, 0.2f, 0.3f}
                                               : std::vector<double>{0, 0, 0});
    }());
  }
}

TEST_CASE("checkpoint: PyTorch's names and layouts", "[checkpoint]") {
  Classifier model(tiny_moe(2), 4);
  const SafeTensors file = models::to_file(model, {});
  const auto shape = [&](const char* name) {
    REQUIRE(file.tensors.contains(name));
    CHECK(file.tensors.at(name).dtype() == Dtype::f32);
    return file.tensors.at(name).shape();
  };
  CHECK(shape("conv1.weight") == Shape{4, 3, 3, 3});
  for (const char* leaf : {"weight", "bias", "running_mean", "running_var"})
    CHECK(shape(text("bn1.", leaf).c_str()) == Shape{4});
  CHECK(shape("layer1.0.conv2.weight") == Shape{8, 4, 3, 3});  // two experts of four filters
  CHECK(shape("layer1.0.bn2.running_var") == Shape{4});
  CHECK(shape("layer2.0.conv1.weight") == Shape{16, 4, 3, 3});
  CHECK(shape("layer2.0.downsample.0.weight") == Shape{8, 4, 1, 1});
  CHECK(shape("layer2.0.downsample.1.weight") == Shape{8});
  CHECK(shape("layer2.1.bn1.bias") == Shape{8});
  CHECK(shape("fc.weight") == Shape{5, 8});
  CHECK(shape("fc.bias") == Shape{5});
  CHECK(shape("router.conv1.weight") == Shape{4, 3, 3, 3});
  CHECK(shape("router.layer2.0.conv1.weight") == Shape{8, 4, 3, 3});
  CHECK(shape("router.fc.weight") == Shape{2, 8});
  CHECK(shape("router.score_norm.running_mean") == Shape{2});
  CHECK(shape("normalize.mean") == Shape{3});
  CHECK(shape("normalize.std") == Shape{3});
  CHECK_FALSE(file.tensors.contains("router.score_norm.weight"));
  CHECK_FALSE(file.tensors.contains("router.layer2.0.downsample.0.weight"));

  const auto architecture = ordered_json::parse(file.metadata.at("architecture"));
  CHECK(architecture.at("family") == "resnet");
  CHECK(architecture.at("gate") == "softmax");
  CHECK(architecture.at("experts") == 2);

  // OIHW of a filter that is KRSC here: element (o, i, y, x) is (o, y, x, i).
  for (const NamedTensor& t : state_of(model)) {
    if (t.name != "layer1.0.conv1.weight") continue;
    const auto krsc = t.value->to_vector<float>();
    const auto oihw = file.tensors.at(t.name).to_vector<float>();
    for (size_t o = 0; o < 8; ++o)
      for (size_t i = 0; i < 4; ++i)
        for (size_t y = 0; y < 3; ++y)
          for (size_t x = 0; x < 3; ++x)
            CHECK(oihw[((o * 4 + i) * 3 + y) * 3 + x] == krsc[((o * 3 + y) * 3 + x) * 4 + i]);
  }
}

TEST_CASE("checkpoint: a hostile architecture is one line", "[checkpoint]") {
  const std::string good = models::architecture_json(tiny_moe(2));
  CHECK_NOTHROW(models::parse_architecture(good, "f"));
  const auto refuse = [&](const ordered_json& document, const std::string& about) {
    const std::string error =
        error_of([&] { models::parse_architecture(document.dump(), "the-file"); });
    INFO(document.dump().substr(0, 200) << "\n-> " << error);
    CHECK(error.starts_with("the-file: architecture"));
    CHECK(error.find(about) != error.npos);
  };
  const ordered_json j = ordered_json::parse(good);
  for (const auto& [key, value] : j.items()) {
    ordered_json without = j;
    without.erase(key);
    refuse(without, key);
    ordered_json mistyped = j;
    mistyped[key] = key == "scaled_stem" || key == "name" ? ordered_json(3) : ordered_json(true);
    refuse(mistyped, key);
  }
  for (const char* key : {"blocks", "widths", "score_norm"}) {
    ordered_json without = j;
    without["router"].erase(key);
    refuse(without, key);
  }
  const std::vector<std::pair<const char*, const char*>> bad = {{"widths", "[8, 1000000000]"},
                                                                {"widths", "[8, 0]"},
                                                                {"widths", "[8, -4]"},
                                                                {"widths", "[]"},
                                                                {"widths", "[8]"},
                                                                {"widths", "[8.5, 16]"},
                                                                {"widths", "\"8,16\""},
                                                                {"blocks", "[1, 100000]"},
                                                                {"blocks", "[1, null]"},
                                                                {"experts", "1000"},
                                                                {"experts", "0"},
                                                                {"experts", "-1"},
                                                                {"experts", "1e99"},
                                                                {"experts", "18446744073709551615"},
                                                                {"ratio", "0"},
                                                                {"ratio", "-0.5"},
                                                                {"ratio", "2"},
                                                                {"ratio", "0.01"},
                                                                {"classes", "0"},
                                                                {"classes", "1"},
                                                                {"classes", "99999999999"},
                                                                {"in_channels", "0"},
                                                                {"stem_width", "0"},
                                                                {"image", "[8]"},
                                                                {"image", "[8, 8, 8]"},
                                                                {"image", "[0, 8]"},
                                                                {"image", "[8, 1000000]"},
                                                                {"shortcut", "\"C\""},
                                                                {"gate", "\"soft\""},
                                                                {"family", "\"mlp\""},
                                                                {"family", "7"}};
  for (const auto& [key, value] : bad) {
    ordered_json broken = j;
    broken[key] = ordered_json::parse(value);
    refuse(broken, key == std::string("widths") && value == std::string("[8]") ? "blocks" : key);
  }
  for (const char* whole : {"", "{", "[]", "null", "7", "{\"family\":\"resnet\"", "\xff\xfe"}) {
    const std::string error = error_of([&] { models::parse_architecture(whole, "the-file"); });
    CHECK(error.starts_with("the-file: architecture: must be"));
  }
  const std::string deep =
      "{\"family\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  CHECK_THAT(error_of([&] { models::parse_architecture(deep, "the-file"); }),
             Catch::Contains("must not nest more than 64 levels"));
}

// A header of a few hundred bytes must not make the program ask for the machine's memory.
TEST_CASE("checkpoint: an architecture far larger than its file is refused", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "small.safetensors";
  ordered_json j = ordered_json::parse(models::architecture_json(tiny_moe(2)));
  j["widths"] = {8192, 8192};
  j["blocks"] = {1000, 1000};
  j["stem_width"] = 8192;
  j["experts"] = 64;
  SafeTensors file;
  file.metadata["architecture"] = j.dump();
  file.tensors["fc.bias"] = Tensor::zeros({5});
  write_safetensors(path, file);
  const std::string error = error_of([&] { models::load_model(path); });
  CHECK(error.find("small.safetensors") != error.npos);
  CHECK(error.find("more parameters than its file holds") != error.npos);
}

TEST_CASE("checkpoint: a file that does not fit is one line", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.safetensors";
  Classifier model(tiny_moe(2), 4);
  const SafeTensors good = models::to_file(model, {});
  const auto error_with = [&](auto&& change) {
    SafeTensors file = good;
    change(file);
    write_safetensors(path, file);
    const std::string error = error_of([&] { models::load_model(path); });
    INFO(error);
    CHECK(error.find(path.string()) != error.npos);
    return error;
  };
  using Catch::Contains;
  CHECK_THAT(error_with([](auto& f) { f.tensors.erase("fc.bias"); }), Contains("'fc.bias'"));
  CHECK_THAT(error_with([](auto& f) { f.tensors["extra.weight"] = Tensor::zeros({2}); }),
             Contains("no tensor 'extra.weight'"));
  CHECK_THAT(error_with([](auto& f) { f.tensors["fc.bias"] = Tensor::zeros({6}); }),
             Contains("'fc.bias' must be float32 [5], got float32 [6]"));
  CHECK_THAT(error_with([](auto& f) { f.tensors["fc.bias"] = Tensor::zeros({5}, Dtype::f64); }),
             Contains("got float64"));
  CHECK_THAT(error_with([](auto& f) {
               f.tensors["conv1.weight"] = Tensor::zeros({4, 3, 3, 1});
             }),
             Contains("must be float32 [4, 3, 3, 3], got float32 [4, 3, 3, 1]"));
  CHECK_THAT(
      error_with([](auto& f) { f.tensors["normalize.mean"] = Tensor::zeros({3}, Dtype::i32); }),
      Contains("normalize.mean"));
  for (const double bad : {0.0, -0.5, std::nan("")}) {
    CHECK_THAT(error_with([&](auto& f) { f.tensors["normalize.std"] = Tensor::full({3}, bad); }),
               Contains("'normalize.std' must be finite and above 0, got"));
  }
  CHECK_THAT(error_with([](auto& f) { f.tensors["normalize.mean"] = Tensor::full({3}, INFINITY); }),
             Contains("'normalize.mean' must be finite, got inf"));
  CHECK_THAT(error_with([](auto& f) { f.metadata.clear(); }), Contains("architecture"));
  CHECK_THAT(error_with([](auto& f) { f.metadata["architecture"] = "{"; }),
             Contains("architecture: must be a JSON document"));
}

TEST_CASE("checkpoint: a refused file changes nothing that is in use", "[checkpoint]") {
  Classifier model(tiny_moe(2), 4), other(tiny_moe(2), 5);
  SafeTensors file = models::to_file(other, {});
  file.tensors.erase("fc.bias");
  const uint64_t before = fingerprint(model);
  CHECK_THROWS_AS(models::restore(model, "", file, "f"), Error);
  CHECK(fingerprint(model) == before);
}

}  // namespace moat::tests
