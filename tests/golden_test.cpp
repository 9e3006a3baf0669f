#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

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

struct Golden {
  models::LoadedModel loaded;
  SafeTensors expected;

  explicit Golden(const std::string& name)
      : loaded(models::load_model(kFolder / (name + ".safetensors"))),
        expected(read_safetensors(kFolder / (name + ".expected.safetensors"))) {}

  const Tensor& operator[](const char* name) const { return expected.tensors.at(name); }
  bool is_routed() const { return loaded.model.is_routed(); }

  models::Prediction predict() const {
    return loaded.model.forward(nhwc_from_nchw((*this)["images"]), Mode::eval);
  }
  Tensor gradient(GateGradient gate) const {
    Tape tape;
    const Tensor x = tape.watch(nhwc_from_nchw((*this)["images"]).contiguous());
    const Tensor logits = loaded.model.forward(x, Mode::eval, gate).logits;
    const Tensor loss = cross_entropy(logits, (*this)["labels"].to(Dtype::i32));
    return nchw_from_nhwc(tape.gradients(loss, Tensor::full(loss.shape(), 1)).of(x));
  }
};

// Of row i, relative to `expected`'s largest value where that is below 1.
double difference(const Tensor& got, const Tensor& expected, int64_t i) {
  const auto a = got.sliced(0, i, i + 1).contiguous().to_vector<float>();
  const auto b = expected.sliced(0, i, i + 1).contiguous().to_vector<float>();
  double largest = 0, size = 0;
  for (size_t k = 0; k < b.size(); ++k) {
    const double off = std::abs(double(a.at(k)) - b[k]);
    largest = std::isnan(off) ? off : std::max(largest, off);
    size = std::max(size, std::abs(double(b[k])));
  }
  return largest / std::min(1.0, size);
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
  CHECK(compared > 8);
}

}  // namespace

TEST_CASE("a checkpoint gives what PyTorch computes with it", "[golden]") {
  const Golden golden(GENERATE("dense", "dense-pad", "moe-softmax", "moe-straight-through"));
  INFO(golden.loaded.metadata.at("architecture"));

  const models::Prediction got = golden.predict();
  if (golden.is_routed()) {
    CHECK(got.experts.to_vector<int32_t>() == golden["routes"].to_vector<int32_t>());
  }
  REQUIRE(got.logits.shape() == golden["logits"].shape());
  for (int64_t i = 0; i < got.logits.dim(0); ++i)
    CHECK(difference(got.logits, golden["logits"], i) < kTolerance);
  require_same_gradients(golden, golden.gradient(GateGradient::open), "gradient");
  if (golden.is_routed())
    require_same_gradients(golden, golden.gradient(GateGradient::blocked), "gradient_blocked");
}

}  // namespace moat::tests
