#include "cli/attack_settings.h"

#include <catch2/catch.hpp>

namespace moat::tests {

using namespace attacks;
using Catch::Matchers::Contains;
using cli::AttackSettings;

namespace {

Attack found(const std::string& name, const AttackSettings& said = {}) {
  return cli::find_attack(name, {.eps = 0.1}, said, 0);
}

}  // namespace

// Dong et al. 2018, algorithm 1.
TEST_CASE("attack settings: MIM starts at the image, also of a transfer", "[cli][attacks]") {
  CHECK(std::get<Pgd>(found("mim")).start == Start::center);
  CHECK(std::get<Transfer>(found("transfer")).climb.start == Start::center);
  CHECK(std::get<Pgd>(found("pgd")).start == Start::uniform);
}

TEST_CASE("attack settings: what changes nothing is refused", "[cli][attacks]") {
  for (const char* name : {"fgsm", "mim", "transfer"})
    CHECK_THROWS_WITH(found(name, {.restarts = 2}),
                      Contains("--restarts is no setting of --attack"));
  for (const char* name : {"router-only", "apgd-t", "square"})
    for (const char* loss : {"margin", "dlr"})
      CHECK_THROWS_WITH(found(name, {.loss = loss}), Contains("--loss is no setting of --attack"));
}

TEST_CASE("attack settings: a gate is of attacks whose gradient passes one", "[cli][attacks]") {
  for (const char* name : {"router-only", "frozen-route", "every-route", "square", "noise"})
    CHECK_THROWS_WITH(found(name, {.gate = "blocked"}),
                      Contains("--gate is no setting of --attack"));
  CHECK(std::get<Fab>(found("fab-t", {.gate = "blocked"})).gate == Gate::blocked);
  CHECK(std::get<DeepFool>(found("deepfool", {.gate = "blocked"})).gate == Gate::blocked);
  CHECK(std::get<Pgd>(found("pgd", {.gate = "through"})).objective.gate == Gate::open);
  CHECK_THROWS_WITH(found("pgd", {.gate = "shut"}), Contains("--gate"));
}

TEST_CASE("attack settings: sign steps end at eps, whatever their number", "[cli][attacks]") {
  const Pgd usual = std::get<Pgd>(found("sign-steps"));
  CHECK(usual.steps == 40);
  CHECK(usual.step == Approx(0.1 / 40));
  CHECK(usual.start == Start::center);
  CHECK(usual.keep == Keep::last);
  CHECK(usual.objective.auxiliary == 0);
  const Pgd said = std::get<Pgd>(found("sign-steps", {.steps = 8, .auxiliary = 1}));
  CHECK(said.step == Approx(0.1 / 8));
  CHECK(said.objective.auxiliary == 1);
  CHECK(std::get<Pgd>(found("sign-steps", {.step = "0.01"})).step == 0.01);
  CHECK_THROWS_WITH(found("sign-steps", {.restarts = 2}), Contains("--restarts is no setting"));
}

TEST_CASE("attack settings: auxiliary losses are climbed with a loss", "[cli][attacks]") {
  CHECK(std::get<Apgd>(found("apgd-ce", {.auxiliary = 0.5})).objective.auxiliary == 0.5);
  CHECK(std::get<Transfer>(found("transfer", {.auxiliary = 2})).climb.objective.auxiliary == 2);
  for (const char* name : {"router-only", "fab-t", "square"})
    CHECK_THROWS_WITH(found(name, {.auxiliary = 1}),
                      Contains("--auxiliary is no setting of --attack"));
  CHECK_THROWS_WITH(found("pgd", {.auxiliary = -1}),
                    Contains("--auxiliary must be at least 0, got -1"));
}

TEST_CASE("attack settings: a step of 0 is that of none given, as train.step", "[cli][attacks]") {
  for (const char* name : {"pgd", "fgsm"}) {
    const double own = std::get<Pgd>(found(name)).step;
    CHECK(own > 0);
    CHECK(std::get<Pgd>(found(name, {.step = "0"})).step == own);
    CHECK(std::get<Pgd>(found(name, {.step = "0.01"})).step == 0.01);
  }
}

TEST_CASE("attack settings: a loss is that of the strike", "[cli][attacks]") {
  const auto strike = [](const Attack& attack) {
    return std::get<Pgd>(std::get<RouteAttack>(attack).strike).objective;
  };
  for (const char* name : {"frozen-route", "joint", "steer-then-strike"})
    CHECK(strike(found(name, {.loss = "dlr"})).loss == Loss::dlr);
  CHECK(std::get<Apgd>(found("apgd-ce", {.loss = "margin"})).objective.loss == Loss::margin);
  const auto steered = std::get<RouteAttack>(
      found("steer-then-strike", {.steps = 3, .loss = "dlr", .gate = "blocked"}));
  const Pgd& steer = std::get<Pgd>(*steered.steer);
  CHECK(steer.steps == 3);
  CHECK(steer.objective.gate == Gate::blocked);
  CHECK(steer.objective.loss == Loss::cross_entropy);
}

}  // namespace moat::tests
