#include "train/saved_state.h"

#include <catch2/catch.hpp>
#include <functional>

#include "engine/io/file.h"
#include "engine/io/safetensors.h"
#include "tests/fuzz/tiny_mixture.h"
#include "tests/noise_set.h"
#include "tests/temporary_folder.h"
#include "train/certify/attacked.h"
#include "train/certify/certification_state.h"

namespace moat::tests {

using namespace engine;
using namespace train;
using Catch::Matchers::Contains;

namespace {

struct Scene {
  models::Classifier model{fuzz::tiny_mixture(), 3};
  data::ImageSet set;
  TemporaryFolder folder;
  std::filesystem::path file = folder.path() / "certificate" / "state.safetensors";

  explicit Scene(int64_t n) {
    stir(model);
    set = noise_set(model.settings(), n, 4, 100);
  }
  SavedState state() const { return {file, {{"model", "a"}}}; }
};

void check_same(const Certification& a, const Certification& b) {
  const SavedState::Tensors one = tensors_of(a), other = tensors_of(b);
  REQUIRE(one.size() == other.size());
  for (const auto& [name, tensor] : one) {
    INFO(name);
    CHECK(tensor.dtype() == other.at(name).dtype());
    CHECK(tensor.to(Dtype::f64).to_vector<double>() ==
          other.at(name).to(Dtype::f64).to_vector<double>());
  }
}

}  // namespace

TEST_CASE("saved state: one is continued by the work that it is of alone", "[state]") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "new" / "state.safetensors";
  SavedState first(file, {{"model", "a"}, {"data set", "b"}});
  first.restore([](const auto&) { FAIL("there is no state yet"); });
  CHECK_FALSE(first.is_due());
  first.keep({{"x", Tensor::full({2}, 3, Dtype::f64)}});
  double seen = 0;
  const auto take = [&](const SavedState::Tensors& found) {
    seen = found.at("x").data_as<double>()[1];
  };
  SavedState(file, {{"data set", "b"}, {"model", "a"}}).restore(take);
  CHECK(seen == 3);
  CHECK_THROWS_WITH(SavedState(file, {{"model", "c"}}).restore(take),
                    Contains("begun with another model goes on with that alone; choose another "
                             "folder, or remove '" +
                             file.string() + "' to begin anew"));
  CHECK_THROWS_WITH(SavedState(file, {{"protocol", "d"}}).restore(take),
                    Contains("another protocol"));
  CHECK_THROWS_WITH(SavedState(file, {}).restore([](const auto&) { throw Error("no"); }),
                    Contains("no; choose another folder, or remove '"));
  write_file(file, [](std::ostream& out) { out << "not a state"; });
  CHECK_THROWS_WITH(SavedState(file, {}).restore(take), Contains("to begin anew"));
  first.remove();
  CHECK_FALSE(std::filesystem::exists(file));
  SavedState nowhere({}, {});
  nowhere.keep({});
  nowhere.restore(take);
  nowhere.remove();
}

TEST_CASE("saved state: the seconds are those of all parts, and a time", "[state]") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "state.safetensors";
  for (const auto& [given, least] :
       {std::pair("100.5", 100.5), {"-3", 0.0}, {"inf", 0.0}, {"nan", 0.0}, {"x", 0.0}}) {
    write_safetensors(file, {.tensors = {}, .metadata = {{"seconds", given}}});
    SavedState state(file, {});
    state.restore([](const auto&) {});
    INFO(given);
    CHECK(state.seconds() >= least);
    CHECK(state.seconds() < least + 10);
  }
}

TEST_CASE("certify: one that was stopped goes on to the same end", "[certify][state]") {
  Scene scene(7);
  const RadiiUnderAttack radii{.protocol = "pgd-10@1", .eps = {1e-4, 0.05, 0.3}};
  const auto proven = [&](int batch, SavedState* state, int stop_after) {
    int batches = 0;
    return certify(scene.model, scene.set,
                   {.batch = batch,
                    .sampled_images = 2,
                    .stop_requested = [&] { return ++batches == stop_after; },
                    .state = state});
  };
  SavedState nowhere({}, {});
  Certification whole = proven(32, nullptr, -1);
  attack_radii(scene.model, scene.set, radii, nowhere, whole);

  for (int stop_after : {1, 2, 4}) {
    INFO("stopped after " << stop_after << " batches of 2");
    SavedState first = scene.state(), second = scene.state();
    CHECK_THROWS_WITH(proven(2, &first, stop_after),
                      Contains("stopped after " + std::to_string(std::min(7, 2 * stop_after)) +
                               " of 7 images; the same command goes on from here"));
    int asked = 0;
    Certification continued = certify(scene.model, scene.set,
                                      {.batch = 3,
                                       .sampled_images = 2,
                                       .stop_requested = [&] { return ++asked < 0; },
                                       .state = &second});
    CHECK(asked == (7 - std::min(7, 2 * stop_after) + 2) / 3);
    // Stopped again in the attack, at the second radius.
    RadiiUnderAttack stopped = radii;
    stopped.folder = scene.file.parent_path();
    int64_t at = 0;
    stopped.progress = [&](int64_t done, const EvaluationStanding&) { at = done; };
    stopped.stop_requested = [&] { return at == 1; };
    CHECK_THROWS_WITH(attack_radii(scene.model, scene.set, stopped, second, continued),
                      Contains("the same command goes on from here"));
    SavedState third = scene.state();
    Certification last = proven(5, &third, -1);
    CHECK(last.resisted.size() == 1);
    stopped.stop_requested = {};
    attack_radii(scene.model, scene.set, stopped, third, last);
    check_same(whole, last);
    CHECK(last.constants.size() == whole.constants.size());
    third.remove();
    CHECK(std::filesystem::is_empty(scene.file.parent_path()));
  }
}

TEST_CASE("certify: a state that cannot be one is refused", "[certify][state]") {
  Scene scene(3);
  const SavedState::Tensors valid =
      tensors_of(certify(scene.model, scene.set, {.sampled_images = 1}));
  const auto refuses = [&](const char* message, const char* name, const Tensor& instead) {
    SavedState::Tensors broken = valid;
    broken[name] = instead;
    scene.state().keep(broken);
    SavedState state = scene.state();
    INFO(name);
    CHECK_THROWS_WITH(certify(scene.model, scene.set, {.state = &state}),
                      Contains(message) && Contains("to begin anew"));
  };
  const auto numbers = [](std::vector<int32_t> list) {
    return Tensor::from(list, {std::ssize(list)});
  };
  const auto radii = [](std::vector<double> list) {
    return Tensor::from(list, {std::ssize(list)});
  };
  refuses("'prediction' from 0 to 1, got 2", "prediction", numbers({0, 1, 2}));
  refuses("'route' from -1 to 1, got -2", "route", numbers({0, -2, 1}));
  refuses("'route' of 2, not 3", "route", numbers({0, 1}));
  refuses("'prediction' of 4, not 4, of 3 images", "prediction", numbers({0, 0, 0, 0}));
  refuses("'route' of 3, not 0", "prediction", numbers({}));
  refuses("'affine' from 0", "affine", radii({0, std::nan(""), 0}));
  refuses("'affine', a list in float64", "affine", numbers({0, 0, 0}));
  refuses("'route_radius' from 0", "route_radius", radii({0, 0, -1}));
  refuses("'resisted' from 0 to 3, got 4", "resisted", Tensor::from(std::vector<int64_t>{4}, {1}));
  SavedState::Tensors early = valid;
  for (const char* name : {"prediction", "route"}) early[name] = numbers({0});
  for (const char* name : {"interval", "affine", "lipschitz", "route_radius"})
    early[name] = radii({0});
  early["resisted"] = Tensor::from(std::vector<int64_t>{0}, {1});
  Certification to;
  CHECK_THROWS_WITH(restore(early, scene.model, scene.set, to), Contains("not proven yet"));
  CHECK(to.images.empty());

  SavedState nowhere({}, {});
  Certification attacked = certify(scene.model, scene.set, {.sampled_images = 1});
  attacked.resisted = {1, 1};
  CHECK_THROWS_WITH(attack_radii(scene.model, scene.set, {.protocol = "pgd-10@1", .eps = {0.1}},
                                 nowhere, attacked),
                    Contains("attacked at 2 radii of 1"));
}

}  // namespace moat::tests
