#include "train/studies.h"

#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "engine/names.h"
#include "train/field.h"

namespace moat::train {

using engine::text;

namespace {

// AdvMoE's question (Zhang et al. 2023, section 4), in an order in which each part is trained with
// the other one frozen: the standard mixture, then its experts or its router made robust, then the
// router of the robust experts.
Study pilot() {
  const std::vector<std::string> experts{"train.update=experts"}, router{"train.update=router"};
  return {"pilot",
          "router and experts, each standard or robust",
          {{"standard", "natural training of both", "digits-at-moe", {"train.method=natural"}, ""},
           {"robust experts", "the same router, frozen; AT of the experts", "digits-at-moe",
            experts, "standard"},
           {"robust router", "the same experts, frozen; AT of the router", "digits-at-moe", router,
            "standard"},
           {"robust both", "AT of the experts, then AT of the router", "digits-at-moe", router,
            "robust experts"},
           {"joint", "AT of both at once, AT(MoE)", "digits-at-moe", {}, ""},
           {"joint trades", "TRADES of both at once", "digits-trades-moe", {}, ""},
           {"advmoe", "AdvMoE: both in turns", "digits-advmoe", {}, ""}},
          {"pgd-50@1"},
          Parts::measured};
}

// What the gradient through the gate does to adversarial training of a mixture.
Study gates() {
  Study study{"gates",
              "AT(MoE) by the gradient through the gate, TRADES(MoE) and AdvMoE",
              {},
              {"pgd-50@1"},
              Parts::measured};
  for (const char* gate : {"softmax", "straight-through"})
    for (const char* attack : {"through", "blocked", "alternate"})
      study.rows.push_back({text(gate, " ", attack),
                            text("gradient of the gate: ", gate, "; in the attack: ", attack),
                            "digits-at-moe",
                            {text("model.gate=", gate), text("train.gate=", attack)},
                            ""});
  study.rows.push_back({"trades-moe", "TRADES of all weights", "digits-trades-moe", {}, ""});
  study.rows.push_back({"advmoe", "AdvMoE", "digits-advmoe", {}, ""});
  return study;
}

// AdvMoE's objective is that of TRADES: what it gains over AT(MoE) is its own only as far as it is
// more than TRADES(MoE) gains.
Study methods() {
  const std::vector<std::string> half{"model.ratio=0.5"};  // as wide as the other mixtures' experts
  return {"methods",
          "the methods beside each other on the digits",
          {{"natural", "dense net without an attack", "digits-natural", {}, ""},
           {"at", "dense net, adversarial training", "digits-at", {}, ""},
           {"trades", "dense net, TRADES", "digits-trades", {}, ""},
           {"at-moe", "mixture, adversarial training of all weights", "digits-at-moe", {}, ""},
           {"trades-moe", "mixture, TRADES of all weights", "digits-trades-moe", {}, ""},
           {"advmoe", "mixture, AdvMoE", "digits-advmoe", {}, ""},
           {"rt-er", "2 networks as wide as an expert, RT-ER", "digits-rt-er", half, ""},
           {"jtdmoe", "two such mixtures, JTDMoE", "digits-jtdmoe", half, ""}},
          {"pgd-50@1", "moe-aa@1"},
          Parts::not_measured};
}

// Is a mixture of tokens' experts more robust than what costs as much (Puigcerver et al. 2022)? The
// deeper transformer costs what the mixture does.
Study v_moe() {
  const std::vector<std::string> natural{"train.method=natural"};
  return {
      "v-moe",
      "V-MoE beside a transformer and a deeper one of its cost, on the digits",
      {{"vit natural", "transformer without an attack", "digits-vit-at", natural, ""},
       {"vit-deep natural", "of the mixture's cost, without an attack", "digits-vit-deep-at",
        natural, ""},
       {"v-moe natural", "mixture without an attack", "digits-v-moe-at", natural, ""},
       {"vit", "transformer, adversarial training", "digits-vit-at", {}, ""},
       {"vit-deep", "of the mixture's cost, adversarial training", "digits-vit-deep-at", {}, ""},
       {"v-moe", "mixture, adversarial training", "digits-v-moe-at", {}, ""},
       {"v-moe auxiliary",
        "the same, the gates' losses in the attack",
        "digits-v-moe-at-auxiliary",
        {},
        ""}},
      {"pgd-50@1", "moe-aa@1"},
      Parts::not_measured};
}

// AdvMoE's main comparison (Zhang et al. 2023, section 5.1) on CIFAR-10, by the presets of one
// size.
Study cifar10(const std::string& name, const std::string& about, const std::string& prefix,
              const std::string& ending) {
  const auto preset_of = [&](const char* method) { return text(prefix, "-", method, ending); };
  return {name,
          about,
          {{"at", "dense net, adversarial training", preset_of("at"), {}, ""},
           {"trades", "dense net, TRADES", preset_of("trades"), {}, ""},
           {"at-moe", "mixture, adversarial training of all weights", preset_of("at-moe"), {}, ""},
           {"trades-moe", "mixture, TRADES of all weights", preset_of("trades-moe"), {}, ""},
           {"advmoe", "mixture, AdvMoE", preset_of("advmoe"), {}, ""}},
          {"pgd-50@1", "moe-aa@1"},
          Parts::not_measured};
}

}  // namespace

const std::vector<Study>& studies() {
  static const std::vector<Study> all{
      methods(),
      gates(),
      pilot(),
      v_moe(),
      cifar10("cifar10", "ResNet-18 and its mixture on CIFAR-10, as in the papers", "cifar10", ""),
      cifar10("cifar10-short", "the same, each in minutes of a GPU", "cifar10", "-short"),
      cifar10("cifar10-narrow", "ResNet-14 and its mixture on 10,000 images, on a CPU",
              "cifar10-narrow", "")};
  return all;
}

const Study& find_study(const std::string& name) {
  return engine::find_named("the study", name, studies(),
                            [](const Study& study) { return study.name; });
}

void require_free(const Study& study, const std::vector<std::string>& settings) {
  std::set<std::string> chosen{"run.seed", "run.dir", "eval.dir", "eval.protocol"};
  const Config first = preset(study.rows.front().preset);
  for (const StudyRow& row : study.rows) {
    for (const std::string& setting : row.settings)
      chosen.insert(setting.substr(0, setting.find('=')));
    if (!row.start.empty()) chosen.insert("train.start");
    // Of what presets differ in, the method and the model; how long they train is for all to say.
    const Config config = preset(row.preset);
    for (const Field& field : fields()) {
      const std::string name = field.name();
      const bool tells_apart =
          field.section == "model" || name == "train.method" || name == "train.form";
      if (tells_apart && value_of(field, config) != value_of(field, first)) chosen.insert(name);
    }
  }
  for (const std::string& setting : settings)
    if (chosen.contains(setting.substr(0, setting.find('='))))
      throw engine::UsageError(text("the study ", study.name, " takes none of ",
                                    engine::listed({chosen.begin(), chosen.end()}),
                                    ", which it chooses itself; leave out ", setting));
}

std::filesystem::path folder_of(const std::string& row, uint64_t seed,
                                const std::filesystem::path& study_folder) {
  return study_folder / text(row, " seed ", seed);
}

Config config_of(const StudyRow& row, uint64_t seed, const std::filesystem::path& study_folder,
                 const std::vector<std::string>& settings) {
  Config config = preset(row.preset);
  for (const std::string& setting : row.settings) config = override_with(config, setting);
  for (const std::string& setting : settings) config = override_with(config, setting);
  if (!row.start.empty()) config.train.start = folder_of(row.start, seed, study_folder).string();
  config.run.dir = folder_of(row.name, seed, study_folder).string();
  config.run.seed = seed;
  validate(config);
  return config;
}

}  // namespace moat::train
