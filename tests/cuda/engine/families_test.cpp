#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;

namespace {

const Device kGpu{Device::cuda, 0};

struct Answers {
  std::vector<float> logits, pixel_gradient, weight_gradient;
};

// Of one image's pixels and of the parameter that is visited first.
Answers answers(Classifier& model, const Tensor& images, const Tensor& labels, Mode mode) {
  const Device device = model.device();
  Tape tape;
  const Tensor x = tape.watch(images.to(device));
  Tensor& first = *parameters_of(model).front().value;
  const Tensor kept = first;
  first = tape.watch(first);
  const models::Prediction p = model.forward(x, mode);
  Tensor loss = sum(cross_entropy(p.logits, labels.to(device)));
  const Gradients gradients = tape.gradients(loss);
  const Tensor own = gradients.of(first);  // none of an expert without images
  Answers out{p.logits.to_vector<float>(), gradients.of(x).to_vector<float>(),
              own.defined() ? own.to_vector<float>() : std::vector<float>{}};
  first = kept;
  return out;
}

void check_close(const std::vector<float>& got, const std::vector<float>& want) {
  double largest = 1e-3;
  for (float v : want) largest = std::max(largest, std::abs(double(v)));
  REQUIRE(got.size() == want.size());
  double apart = 0;
  for (size_t i = 0; i < got.size(); ++i)
    apart = std::max(apart, std::abs(double(got[i]) - want[i]));
  CHECK(apart <= 1e-4 * largest);
}

}  // namespace

// Routes and choices of experts are the same on both, unless two scores tie up to rounding.
TEST_CASE("gpu: every family of models equals the CPU's", "[gpu][families]") {
  const Mode mode = GENERATE(Mode::eval, Mode::train);
  for (const ClassifierSettings& s : small_families()) {
    INFO(s.name << (mode == Mode::train ? ", train" : ", eval"));
    Classifier cpu(s, 3), gpu(s, 3, kGpu);
    stir(cpu);
    const auto from = state_of(cpu), to = state_of(gpu);
    for (size_t i = 0; i < from.size(); ++i) to[i].value->copy_from(*from[i].value);
    const Tensor images = random_images(5, s), labels = random_labels(5, s.classes);
    const Answers want = answers(cpu, images, labels, mode),
                  got = answers(gpu, images, labels, mode);
    check_close(got.logits, want.logits);
    check_close(got.pixel_gradient, want.pixel_gradient);
    check_close(got.weight_gradient, want.weight_gradient);
  }
}

}  // namespace moat::tests
