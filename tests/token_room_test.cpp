#include "train/token_room.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "engine/io/safetensors.h"
#include "engine/ops/reduce.h"
#include "models/checkpoint.h"
#include "tests/learner_fixture.h"
#include "tests/noise_set.h"
#include "tests/temporary_folder.h"
#include "train/evaluation_checks.h"
#include "train/evaluation_files.h"
#include "train/model_settings.h"
#include "train/training_attack.h"
#include "train/validation.h"

namespace moat::tests {

using namespace engine;
using namespace train;
using Catch::Matchers::Contains;

namespace {

// A V-MoE of two of three experts for each token, in its first block, so that tokens dropped there
// are seen by all of the next.
models::ClassifierSettings v_moe(double capacity, int group) {
  models::ClassifierSettings s = small_family("v-moe");
  s.transformer.moe.blocks = {0};
  s.transformer.moe.capacity = capacity;
  s.transformer.moe.group = group;
  return s;
}

models::ClassifierSettings dense() { return tiny_dense(); }

models::ClassifierSettings dual_with(const models::ClassifierSettings& robust) {
  return models::dual_of("dual", {.standard = dense(), .robust = robust});
}

// Images the model classifies as they are labelled.
data::ImageSet own_images(models::Classifier& model, int64_t n) {
  data::ImageSet set = noise_set(model.settings(), n, 4, 100);
  const Tensor images = data::batch_of(set).images;
  for (const NamedTensor& t : state_of(model))  // no class is everyone's favourite
    if (t.name == "head.bias")
      t.value->copy_from(sub(*t.value, mean(model.forward(images, Mode::eval).logits, 0)));
  set.labels = argmax(model.forward(images, Mode::eval).logits, 1).to_vector<int32_t>();
  return set;
}

}  // namespace

TEST_CASE("token room: a person is told where images share it", "[train][v-moe]") {
  ModelSettings model;
  model.name = "digits-v-moe";  // two of four experts for each token
  const auto warning = [&] { return company_warning(zoo_settings(model)); };
  CHECK(warning().empty());
  model.capacity = 1.05;
  CHECK_THAT(warning(), Contains("other images of its batch"));
  model.group = 4;
  CHECK_THAT(warning(), Contains("other 3 images of its group"));
  CHECK_THAT(company_warning(dual_with(zoo_settings(model))),
             Contains("other 3 images of its group"));
  model.capacity = 1.99;
  CHECK_FALSE(warning().empty());
  model.capacity = 2;  // room for every token in either of them
  CHECK(warning().empty());
  model.capacity = 1.05;
  model.group = 1;
  CHECK(warning().empty());
}

TEST_CASE("token room: where nothing is said, company changes nothing", "[train][v-moe]") {
  for (const auto& [capacity, group] :
       {std::pair{0.0, 0}, {0.4, 1}, {1.5, 3}, {0.4, 3}, {0.4, 0}}) {
    const models::Classifier model(v_moe(capacity, group), 3);
    const Tensor x = random_images(6, model.settings());
    const auto whole = model.forward(x, Mode::eval).logits.to_vector<float>();
    bool is_same = true;
    for (int64_t i = 0; i < 6; ++i) {
      const auto alone =
          model.forward(x.sliced(0, i, i + 1).contiguous(), Mode::eval).logits.to_vector<float>();
      is_same &= std::equal(alone.begin(), alone.end(), whole.begin() + 5 * i);
    }
    INFO("capacity " << capacity << ", group " << group);
    CHECK(is_same == company_warning(model.settings()).empty());
  }
}

TEST_CASE("token room: a trained model takes another", "[train][v-moe]") {
  const models::ClassifierSettings s = v_moe(0.5, 4);
  const auto set =
      with_room(s, {"model.capacity=1.5", "model.group=1", "model.priority=best-gate"});
  CHECK(set.transformer.moe.capacity == 1.5);
  CHECK(set.transformer.moe.group == 1);
  CHECK(set.transformer.moe.priority == models::Priority::best_gate);
  const auto one = with_room(s, {"model.capacity=1"}).transformer.moe;
  CHECK(one.capacity == 1);
  CHECK(one.group == 4);
  CHECK(one.priority == models::Priority::order);
  CHECK(with_room(s, {}).transformer.moe.capacity == 0.5);
  CHECK(with_room(dual_with(s), {"model.group=1"}).dual->robust.transformer.moe.group == 1);

  CHECK_THROWS_WITH(with_room(dense(), {"model.group=1"}), Contains("model.group=1 needs a v-moe"));
  CHECK_THROWS_WITH(with_room(dual_with(dense()), {"model.group=1"}), Contains("needs a v-moe"));
  for (const char* other : {"model.experts=2", "train.eps=0.1"})
    CHECK_THROWS_WITH(with_room(s, {other}), Contains("only model.capacity, model.group or") &&
                                                 Contains(std::string("got ") + other));
  CHECK_THROWS_WITH(with_room(s, {"model.capacity=-1"}), Contains("from 0 to 1000"));
  CHECK_THROWS_WITH(with_room(s, {"model.group"}), Contains("section.key=value"));

  // Its weights stay: the model is that of these settings.
  const TemporaryFolder folder;
  models::Classifier model(s, 3);
  const auto file = folder.path() / "m.safetensors";
  write_safetensors(file, models::to_file(model, {}));
  models::Classifier adapted =
      std::move(models::load_model(file, {}, [](models::ClassifierSettings& read) {
                  read = with_room(read, {"model.capacity=0"});
                }).model);
  const Tensor x = random_images(6, s);
  const auto logits = [&](const models::Classifier& of) {
    return of.forward(x, Mode::eval).logits.to_vector<float>();
  };
  CHECK(logits(adapted) == logits(models::Classifier(v_moe(0, 0), 3)));
  CHECK(logits(adapted) != logits(model));
}

TEST_CASE("token room: what is attacked has none in common", "[train][v-moe]") {
  models::Classifier coupled(v_moe(0.5, 4), 3), own(v_moe(0.5, 1), 3);
  const auto refused = [](const auto& used) {
    CHECK_THROWS_AS(used(), UsageError);
    CHECK_THROWS_WITH(used(), Contains("must give each image a result of its own") &&
                                  Contains("room for 0.5 times an even share") &&
                                  Contains("other 3 images of its group") &&
                                  Contains("model.group=1 or model.capacity=0 ends that"));
  };
  refused([&] { attack_model(coupled); });
  refused([] { attack_model(models::Classifier(dual_with(v_moe(0.5, 4)), 3)); });
  const attacks::Protocol protocol =
      attacks::find_protocol("pgd-10@1", {.eps = 0.02}, 0, attack_model(own));
  const data::ImageSet set = own_images(own, 6);
  refused([&] { evaluate(coupled, set, protocol); });
  CHECK(evaluate(own, set, protocol).samples.size() == 6);
  // In training it is only warned of.
  Learner learner(v_moe(0.5, 4), 3);
  Config config;
  config.train.eps = 0.02;
  config.eval.validation_steps = 1;
  CHECK(validate_on(learner, own_images(learner.model, 6), config).clean >= 0);
}

// Fooled images leave the batch, so groups change under an attack: the images are not fooled in the
// groups that they are judged in.
TEST_CASE("token room: G6 fails where fooled images are right in the verdict", "[train][v-moe]") {
  Learner learner(v_moe(0.4, 4), 3);
  const data::ImageSet set = own_images(learner.model, 48);
  const attacks::ThreatModel threat{.eps = 0.02};
  const attacks::Model seen = attack_model(learner);
  const data::Batch all = data::batch_of(set);
  const attacks::ProtocolResult found = attacks::run_protocol(
      seen, victims_of(all), attacks::find_protocol("pgd-10@1", threat, 0, seen));
  Evaluation e{.protocol = attacks::find_protocol("pgd-10@1", threat, 0, seen),
               .samples = found.samples,
               .spent = found.spent,
               .adversarial = found.adversarial};
  const TemporaryFolder folder;
  write_pictures(folder.path(), e, set);
  const auto file = folder.path() / "adversarial.safetensors";
  // In the batches of the verdict itself nothing is predicted otherwise.
  const Verification v = verify(learner.model, e, set, threat, 72, file);
  CHECK(v.changed == 0);
  INFO("clean " << e.clean_correct(set) << " robust " << e.robust_correct(set));
  REQUIRE(v.contradicted > 0);
  const EvaluationSubject on{learner.model, "", "", "none", set, threat, 48, 0, 0};
  const auto g6 = [&](const Verification& verified) {
    for (const attacks::Check& c : evaluation_checks(e, on, verified))
      if (c.id == "G6") return c;
    throw Error("no G6");
  };
  CHECK(g6(v).status == attacks::CheckStatus::fail);
  CHECK(g6({}).status == attacks::CheckStatus::pass);

  Learner sound(v_moe(0.4, 1), 3);
  const data::ImageSet its = own_images(sound.model, 48);
  e = evaluate(sound.model, its, e.protocol);
  CHECK(e.robust_correct(its) < 48);
  write_pictures(folder.path(), e, its);
  CHECK(verify(sound.model, e, its, threat, 72, file).contradicted == 0);
}

TEST_CASE("token room: a report says it, and a state belongs to it", "[train][v-moe]") {
  CHECK(moe_json(dense()).is_null());
  CHECK(moe_json(tiny_moe(2)).dump() == R"({"experts":2,"gate":"softmax"})");
  const std::string text =
      R"({"blocks":[0],"experts":3,"k":2,"capacity":1.5,"group":1,"priority":"order"})";
  CHECK(moe_json(v_moe(1.5, 1)).dump() == text);
  CHECK(moe_json(dual_with(v_moe(1.5, 1))).dump() == R"({"standard":null,"robust":)" + text + "}");
  CHECK(moe_json(dual_with(dense())).is_null());

  models::Classifier model(v_moe(0.5, 1), 3);
  const data::ImageSet set = own_images(model, 4);
  const attacks::ThreatModel threat{.eps = 0.02};
  const TemporaryFolder folder;
  const auto file = folder.path() / "state.safetensors";
  const auto run = [&](models::Classifier& of) {
    return evaluate(of, set, attacks::find_protocol("fgsm@1", threat, 0, attack_model(of)),
                    {.state = file});
  };
  const Evaluation e = run(model);
  const auto report = write_evaluation(e, {model, "file", "hash", "none", set, threat, 8, 0, 0},
                                       folder.path() / "done");
  CHECK(report.at("model").at("moe").at("capacity") == 0.5);
  CHECK(report.at("moe").is_null());           // which counts the routes of images
  models::Classifier other(v_moe(1.5, 1), 3);  // the same weights
  for (const NamedTensor& to : state_of(other))
    for (const NamedTensor& from : state_of(model))
      if (from.name == to.name) to.value->copy_from(*from.value);
  CHECK_THROWS_WITH(run(other), Contains("another architecture"));
}

}  // namespace moat::tests
