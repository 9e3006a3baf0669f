#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/io/safetensors.h"
#include "engine/ops/loss.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "models/checkpoint.h"

// Checkpoints and results that PyTorch computed (tests/golden/make_golden.py).

namespace moat::tests {

using namespace engine;
using models::GateGradient;

namespace {

constexpr double kTolerance = 1e-4;
const std::filesystem::path kFolder = MOAT_GOLDEN_FOLDER;
const std::string kExpected = ".expected.safetensors", kFormula = "formula:", kTrain = "train.";

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kExpected)) names.push_back(name.substr(0, name.size() - kExpected.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The checkpoint, with the tensors that are too large for a repository: number i is 0.1 sin(i²).
SafeTensors checkpoint(const std::string& name) {
  SafeTensors file = read_safetensors(kFolder / (name + ".safetensors"));
  for (const auto& [key, value] : file.metadata) {
    if (!key.starts_with(kFormula)) continue;
    Shape shape;
    for (int64_t extent : nlohmann::json::parse(value).get<std::vector<int64_t>>())
      shape.push_back(extent);
    std::vector<float> values;
    for (int64_t i = 0; i < shape.count(); ++i)
      values.push_back(static_cast<float>(0.1 * std::sin(double(i) * double(i))));
    file.tensors[key.substr(kFormula.size())] = Tensor::from(values, shape);
  }
  return file;
}

struct Golden {
  models::LoadedModel loaded;
  SafeTensors expected;

  explicit Golden(const std::string& name)
      : loaded(models::from_file(checkpoint(name), name)),
        expected(read_safetensors(kFolder / (name + kExpected))) {}

  const Tensor& operator[](const std::string& name) const { return expected.tensors.at(name); }
  bool has(const std::string& name) const { return expected.tensors.contains(name); }

  models::Prediction predict(Mode mode) const {
    return loaded.model.forward(nhwc_from_nchw((*this)["images"]), mode);
  }
  Tensor gradient(GateGradient gate) const {
    Tape tape;
    const Tensor x = tape.watch(nhwc_from_nchw((*this)["images"]).contiguous());
    const Tensor logits = loaded.model.forward(x, Mode::eval, gate).logits;
    const Tensor loss = cross_entropy(logits, (*this)["labels"].to(Dtype::i32));
    return nchw_from_nhwc(tape.gradients(loss, Tensor::full(loss.shape(), 1)).of(x));
  }
};

// Relative to `expected`'s largest value where that is below 1.
double difference(const Tensor& got, const Tensor& expected) {
  const auto a = got.contiguous().to_vector<float>(), b = expected.contiguous().to_vector<float>();
  REQUIRE(a.size() == b.size());
  double largest = 0, size = 0;
  for (size_t k = 0; k < b.size(); ++k) {
    const double off = std::abs(double(a[k]) - b[k]);
    largest = std::isnan(off) ? off : std::max(largest, off);
    size = std::max(size, std::abs(double(b[k])));
  }
  return largest / std::min(1.0, size);
}

// Of row i.
double difference(const Tensor& got, const Tensor& expected, int64_t i) {
  return difference(got.sliced(0, i, i + 1), expected.sliced(0, i, i + 1));
}

void require_same_gradients(const Golden& golden, const Tensor& got, const char* name) {
  const auto smooth = golden["smooth"].to_vector<uint8_t>();
  int compared = 0;
  for (size_t i = 0; i < smooth.size(); ++i) {
    if (!smooth[i]) continue;
    INFO(name << " of image " << i);
    CHECK(difference(got, golden[name], int64_t(i)) < kTolerance);
    ++compared;
  }
  CHECK(compared > 7);
}

}  // namespace

TEST_CASE("a checkpoint gives what PyTorch computes with it", "[golden]") {
  CHECK(golden_names().size() == 25);
  for (const std::string& name : golden_names()) {
    const Golden golden(name);
    INFO(name << ": " << golden.loaded.metadata.at("architecture"));

    const models::Prediction got = golden.predict(Mode::eval);
    CHECK(got.experts.defined() == golden.has("routes"));
    if (golden.has("routes"))
      CHECK(got.experts.to_vector<int32_t>() == golden["routes"].to_vector<int32_t>());
    for (size_t i = 0; i < got.tokens.experts.size(); ++i)
      CHECK(got.tokens.experts[i].to_vector<int32_t>() ==
            golden[text("tokens.", i)].to_vector<int32_t>());
    REQUIRE(got.logits.shape() == golden["logits"].shape());
    for (int64_t i = 0; i < got.logits.dim(0); ++i)
      CHECK(difference(got.logits, golden["logits"], i) < kTolerance);
    require_same_gradients(golden, golden.gradient(GateGradient::open), "gradient");
    if (golden.has("gradient_blocked"))
      require_same_gradients(golden, golden.gradient(GateGradient::blocked), "gradient_blocked");
  }
}

TEST_CASE("a pass in training mode leaves the statistics that PyTorch leaves", "[golden]") {
  for (const std::string& name : golden_names()) {
    Golden golden(name);
    INFO(name);
    const Tensor logits = golden.predict(Mode::train).logits;
    for (int64_t i = 0; i < logits.dim(0); ++i)
      CHECK(difference(logits, golden["train.logits"], i) < kTolerance);
    size_t compared = 1;
    for (const NamedTensor& t : state_of(golden.loaded.model)) {
      if (!golden.has(kTrain + t.name)) continue;
      INFO(t.name);
      CHECK(difference(*t.value, golden[kTrain + t.name]) < kTolerance);
      ++compared;
    }
    size_t expected = 0;
    for (const auto& each : golden.expected.tensors) expected += each.first.starts_with(kTrain);
    CHECK(compared == expected);
  }
}

}  // namespace moat::tests
