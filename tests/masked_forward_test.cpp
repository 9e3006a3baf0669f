#include "bench/masked_forward.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/tape.h"
#include "tests/models_fixture.h"

namespace moat::tests {

using namespace engine;
using models::Classifier;
using models::ClassifierSettings;
using models::GateForm;
using models::GateGradient;

namespace {

// Largest difference, relative to the largest reference value (1e-3 at least: a gradient that is
// zero up to rounding has no relative error).
double distance(const Tensor& got, const Tensor& reference) {
  REQUIRE(got.defined());
  REQUIRE(reference.defined());
  REQUIRE(got.shape() == reference.shape());
  const auto a = got.to(Dtype::f64).to_vector<double>(),
             b = reference.to(Dtype::f64).to_vector<double>();
  double difference = 0, largest = 1e-3;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    if (!std::isfinite(a[i])) difference = INFINITY;
    largest = std::max(largest, std::abs(b[i]));
  }
  return difference / largest;
}

// A gradient that no path reaches is undefined, or zero.
Tensor or_zeros(const Tensor& gradient, const Tensor& like) {
  return gradient.defined() ? gradient : Tensor::zeros(like.shape(), like.dtype());
}

Tensor loss_of(const models::Prediction& p, const Tensor& labels) {
  return add(sum(cross_entropy(p.logits, labels)), sum(square(p.logits)));
}

// Another model of the same numbers.
Classifier copy_of(Classifier& model) {
  Classifier copy(model.settings(), 0);
  const auto to = state_of(copy), from = state_of(model);
  for (size_t i = 0; i < to.size(); ++i) *to[i].value = from[i].value->clone();
  return copy;
}

// From now on the model's parameters are variables of the tape.
void watch_parameters(Tape& tape, Classifier& model) {
  for (const NamedTensor& t : parameters_of(model)) *t.value = tape.watch(*t.value);
}

struct Case {
  const char* name;
  ClassifierSettings settings;
  std::vector<double> push;  // mean router score per expert, beyond balance
  std::vector<bool> used;    // experts that serve an image
  int64_t images = 9;
};

ClassifierSettings with(ClassifierSettings s, GateForm gate, bool score_norm) {
  s.gate = gate;
  s.router.score_norm = score_norm;
  return s;
}

std::vector<Case> cases(Mode mode) {
  ClassifierSettings padded = with(tiny_moe(2), GateForm::raw, false);
  padded.shortcut = models::Shortcut::pad;
  padded.mean = {0.4, 0.5, 0.6};
  padded.deviation = {0.2, 0.3, 0.4};
  ClassifierSettings released = with(tiny_moe(2), GateForm::raw, false);
  released.scaled_stem = false;
  const auto four = with(tiny_moe(4), GateForm::softmax, false);
  std::vector<Case> all = {
      {"mixed routes", with(tiny_moe(2), GateForm::softmax, true), {0, 0}, {true, true}},
      {"option A, normaliser", padded, {0, 0}, {true, true}},
      {"wide stem, raw gate", released, {0, 0}, {true, true}},
      {"one expert takes all", with(tiny_moe(2), GateForm::raw, false), {-50, 50}, {false, true}},
      {"an empty segment", four, {0, -50, 0, 0}, {true, false, true, true}, 17},
      {"four experts",
       with(tiny_moe(4), GateForm::softmax, true),
       {0, 0, 0, 0},
       {true, true, true, true},
       33}};
  if (mode == Mode::eval)
    all.push_back(
        {"a batch of one", with(tiny_moe(2), GateForm::softmax, true), {0, 1}, {false, true}, 1});
  return all;
}

// One that routes these images as the case has it.
Classifier balanced_model(const Case& c, Mode mode, Dtype dtype, const Tensor& images) {
  Classifier model(c.settings, 3);
  stir(model);
  balance_router(model, images.to(Dtype::f32), c.push, mode);
  convert(model, dtype);
  return model;
}

// Everything the two forms compute.
void compare(const Case& c, Mode mode, GateGradient gradient, Dtype dtype, double tolerance) {
  INFO(c.name << (mode == Mode::train ? ", train" : ", eval")
              << (gradient == GateGradient::open ? ", open, " : ", blocked, ") << name_of(dtype));
  const Tensor images = random_images(c.images, c.settings).to(dtype),
               labels = random_labels(c.images, c.settings.classes);
  Classifier model = balanced_model(c, mode, dtype, images), twin = copy_of(model);
  const auto masked = bench::masked_forward(twin);

  Tape ours;
  watch_parameters(ours, model);
  const Tensor our_images = ours.watch(images);
  const models::Prediction p = model.forward(our_images, mode, gradient);
  const Gradients our_gradients = ours.gradients(loss_of(p, labels));

  Tape theirs;
  watch_parameters(theirs, twin);
  const Tensor their_images = theirs.watch(images);
  const models::Prediction q = masked(their_images, mode, gradient, nullptr);
  const Gradients their_gradients = theirs.gradients(loss_of(q, labels));

  const auto routes = p.experts.to_vector<int32_t>();
  for (size_t e = 0; e < c.used.size(); ++e)
    CHECK((std::count(routes.begin(), routes.end(), int32_t(e)) > 0) == c.used[e]);
  CHECK(routes == q.experts.to_vector<int32_t>());
  CHECK(distance(p.scores, q.scores) <= tolerance);
  CHECK(distance(p.logits, q.logits) <= tolerance);
  CHECK(distance(our_gradients.of(our_images), their_gradients.of(their_images)) <= tolerance);
  double router_gradient = 0;
  const auto our_state = state_of(model), their_state = state_of(twin);
  for (size_t i = 0; i < our_state.size(); ++i) {
    const NamedTensor& t = our_state[i];
    const Tensor& theirs_of_it = *their_state[i].value;
    INFO(t.name);
    if (t.role == Role::buffer) {
      CHECK(distance(*t.value, theirs_of_it) <= tolerance);
      continue;
    }
    const Tensor reference = or_zeros(their_gradients.of(theirs_of_it), theirs_of_it);
    CHECK(distance(or_zeros(our_gradients.of(*t.value), *t.value), reference) <= tolerance);
    if (t.name.starts_with("router.")) router_gradient += sum(abs(reference)).item();
  }
  CHECK((router_gradient > 0) == (gradient == GateGradient::open));
}

}  // namespace

// float64 leaves no kink of a ReLU within rounding of zero; float32 is held to a tolerance that
// thousands of sums of rounding errors keep, and a wrong term does not.
TEST_CASE("moe-cnn: equals its mask-everything form", "[models][moe]") {
  const Mode mode = GENERATE(Mode::train, Mode::eval);
  const GateGradient gradient = GENERATE(GateGradient::open, GateGradient::blocked);
  for (const Case& c : cases(mode)) {
    compare(c, mode, gradient, Dtype::f64, 1e-9);
    compare(c, mode, gradient, Dtype::f32, 2e-3);
  }
}

// The attack's own path: constant weights, batch norms folded into packed filters. The masked form
// folds none, because its weights are variables.
TEST_CASE("moe-cnn: the folded form equals its mask-everything form", "[models][moe]") {
  const GateGradient gradient = GENERATE(GateGradient::open, GateGradient::blocked);
  const Dtype dtype = GENERATE(Dtype::f64, Dtype::f32);
  const double tolerance = dtype == Dtype::f64 ? 1e-9 : 2e-3;
  for (const Case& c : cases(Mode::eval)) {
    INFO(c.name << ' ' << name_of(dtype));
    const Tensor images = random_images(c.images, c.settings).to(dtype),
                 labels = random_labels(c.images, c.settings.classes);
    Classifier model = balanced_model(c, Mode::eval, dtype, images), twin = copy_of(model);
    const auto masked = bench::masked_forward(twin);
    Tape tape;
    watch_parameters(tape, twin);
    const Tensor a = tape.watch(images), b = tape.watch(images);
    const models::Prediction p = model.forward(a, Mode::eval, gradient);
    const models::Prediction q = masked(b, Mode::eval, gradient, nullptr);
    const Gradients gradients = tape.gradients(add(loss_of(p, labels), loss_of(q, labels)));
    CHECK(p.experts.to_vector<int32_t>() == q.experts.to_vector<int32_t>());
    CHECK(distance(p.logits, q.logits) <= tolerance);
    CHECK(distance(gradients.of(a), gradients.of(b)) <= tolerance);
  }
}

// What `moat bench attack` measures us against: both forms fold.
TEST_CASE("moe-cnn: the folded forms are the same function", "[models][moe]") {
  const GateGradient gradient = GENERATE(GateGradient::open, GateGradient::blocked);
  const ClassifierSettings settings = with(tiny_moe(2), GateForm::softmax, true);
  Classifier model(settings, 3);
  stir(model);
  const Tensor images = random_images(9, settings), labels = random_labels(9, settings.classes);
  balance_router(model, images, {0, 0}, Mode::eval);
  const auto masked = bench::masked_forward(model);
  Tape tape;
  const Tensor a = tape.watch(images), b = tape.watch(images);
  const models::Prediction p = model.forward(a, Mode::eval, gradient),
                           q = masked(b, Mode::eval, gradient, nullptr);
  const Gradients gradients = tape.gradients(add(loss_of(p, labels), loss_of(q, labels)));
  CHECK(p.experts.to_vector<int32_t>() == q.experts.to_vector<int32_t>());
  CHECK(distance(p.logits, q.logits) <= 2e-3);
  CHECK(distance(gradients.of(a), gradients.of(b)) <= 2e-3);
}

}  // namespace moat::tests
