#include <algorithm>

#include "attacks/protocol.h"
#include "engine/names.h"

namespace moat::attacks {

using namespace engine;

namespace {

// What a protocol is made for.
struct Setting {
  ThreatModel threat;
  uint64_t seed;
  const Model& model;
};

using Attacks = std::vector<NamedAttack>;

void add_both(Attacks& to, const Setting& on, const std::string& name, const Attack& attack,
              Against against) {
  for (NamedAttack& form : at_both_gates(name, attack, against, on.model))
    to.push_back(std::move(form));
}

Pgd pgd_of(const Setting& on, int steps) {
  return {.threat = on.threat,
          .steps = steps,
          .step = on.threat.eps / 4,
          .start = Start::uniform,
          .keep = Keep::worst,
          .seed = on.seed};
}

template <int kSteps>
Attacks pgd_attacks(const Setting& on) {
  Attacks attacks;
  add_both(attacks, on, text("pgd-", kSteps), pgd_of(on, kSteps), Against::correct);
  return attacks;
}

Attacks fgsm_attacks(const Setting& on) {
  Pgd a = fgsm(on.threat);
  a.seed = on.seed;
  Attacks attacks;
  add_both(attacks, on, "fgsm", a, Against::correct);
  return attacks;
}

// The V-MoE study, without and with the auxiliary losses in what is climbed.
Attacks sign_attacks(const Setting& on) {
  Attacks attacks;
  add_both(attacks, on, "sign-40", sign_steps(on.threat, 0), Against::correct);
  if (on.model.auxiliary)
    add_both(attacks, on, "sign-40 auxiliary", sign_steps(on.threat, 1), Against::correct);
  return attacks;
}

Apgd apgd_of(const Setting& on, Loss loss, int restarts = 1) {
  Apgd a{.threat = on.threat, .restarts = restarts, .seed = on.seed};
  a.objective.loss = loss;
  if (loss == Loss::dlr_targeted) a.targets = 9;
  return a;
}
Fab fab_of(const Setting& on, int targets, int restarts = 1) {
  return {.threat = on.threat, .targets = targets, .restarts = restarts, .seed = on.seed};
}

Attacks standard(const Setting& on) {
  Attacks all;
  add_both(all, on, "apgd-ce", apgd_of(on, Loss::cross_entropy), Against::survivors);
  add_both(all, on, "apgd-t", apgd_of(on, Loss::dlr_targeted), Against::survivors);
  add_both(all, on, "fab-t", fab_of(on, 9), Against::survivors);
  all.push_back({"square", Square{.threat = on.threat, .seed = on.seed}, Against::survivors});
  return all;
}

Attacks plus(const Setting& on) {
  Attacks all;
  add_both(all, on, "apgd-ce", apgd_of(on, Loss::cross_entropy, 5), Against::survivors);
  add_both(all, on, "apgd-dlr", apgd_of(on, Loss::dlr, 5), Against::survivors);
  add_both(all, on, "fab", fab_of(on, 0, 5), Against::survivors);
  all.push_back({"square", Square{.threat = on.threat, .seed = on.seed}, Against::survivors});
  add_both(all, on, "apgd-t", apgd_of(on, Loss::dlr_targeted), Against::survivors);
  add_both(all, on, "fab-t", fab_of(on, 9), Against::survivors);
  return all;
}

Attacks randomised(const Setting& on) {
  Attacks all;
  for (const auto& [name, loss] :
       {std::pair{"apgd-ce", Loss::cross_entropy}, {"apgd-dlr", Loss::dlr}}) {
    Apgd a = apgd_of(on, loss);
    a.objective.passes = 20;
    add_both(all, on, name, a, Against::survivors);
  }
  return all;
}

Attacks quick(const Setting& on) {
  Attacks all;
  Apgd margin = apgd_of(on, Loss::margin);
  margin.steps = 20;
  add_both(all, on, "apgd-margin", margin, Against::survivors);
  Apgd targeted = apgd_of(on, Loss::dlr_targeted);
  targeted.steps = 20;
  targeted.targets = 3;
  add_both(all, on, "apgd-t", targeted, Against::survivors);
  return all;
}

void require_routes(const Model& model, const char* protocol) {
  require(model.routes > 1 && model.along, [&] {
    return text(protocol, " needs a model that routes whole images, which this one does not; ",
                "aa-standard@1 is for any model");
  });
}

// The experts and the router one at a time (RA-E and RA-R of Zhang et al. 2025).
Attacks components(const Setting& on) {
  require_routes(on.model, "components@1");
  const Pgd pgd = pgd_of(on, 50);
  return {{"experts (RA-E)", frozen_route(pgd)}, {"router (RA-R)", router_only(pgd)}};
}

// attacks.md 7.3: AutoAttack, then what a mixture calls for, each on what is left.
Attacks moe(const Setting& on) {
  require_routes(on.model, "moe-aa@1");
  Attacks all = standard(on);
  const auto add = [&](const std::string& name, const Attack& attack, const char* check = "") {
    all.push_back({name, attack, Against::survivors, check});
  };
  for (const auto& [name, loss] : {std::pair{"soft backward ce", Loss::cross_entropy},
                                   {"soft backward targeted dlr", Loss::dlr_targeted}}) {
    Apgd soft = apgd_of(on, loss);
    soft.objective.path = Path::soft_backward;
    add(name, soft, "M5");
  }
  const Apgd margin = apgd_of(on, Loss::margin);
  add("every route", every_route(margin), "M4");
  Apgd blocked = margin;
  blocked.objective.gate = Gate::blocked;
  Pgd strike = pgd_of(on, 50);
  strike.objective = {.loss = Loss::margin, .gate = Gate::blocked};
  add("steer then strike", steer_then_strike(pgd_of(on, 50), strike), "M6");
  for (double lambda : {0.1, 1.0, 6.0})
    add(text("joint lambda ", lambda), joint(blocked, lambda), "M7");
  Pgd smoothed{.threat = on.threat, .steps = 100, .step = 0.01, .seed = on.seed};
  smoothed.objective = {.loss = Loss::margin, .samples = 100};
  add("smoothed gradient", smoothed, "M8");
  add("square 3 restarts", Square{.threat = on.threat, .restarts = 3, .seed = on.seed + 1});
  Apgd transfer = margin;
  transfer.objective.path = Path::soft;
  add("transfer from soft routes", transfer, "M5");
  return all;
}

struct Row {
  const char* name;
  const char* says;
  Attacks (*attacks)(const Setting&);
};
constexpr Row kProtocols[] = {
    {"pgd-50@1", "50 steps of eps / 4 from a random point", pgd_attacks<50>},
    {"pgd-20@1", "20 of them", pgd_attacks<20>},
    {"pgd-10@1", "10 of them", pgd_attacks<10>},
    {"fgsm@1", "one step of eps from the image", fgsm_attacks},
    {"sign-40@1",
     "V-MoE's study: 40 steps of eps / 40 from the image, with and without gate losses",
     sign_attacks},
    {"quick@1", "a screening: APGD on the margin and on 3 targets, 20 steps", quick},
    {"aa-standard@1", "AutoAttack: APGD-CE, APGD-T, FAB-T, Square", standard},
    {"aa-plus@1", "AutoAttack plus: 5 restarts, APGD-DLR and untargeted FAB as well", plus},
    {"aa-rand@1", "AutoAttack for randomised models: APGD-CE and APGD-DLR, 20 passes averaged",
     randomised},
    {"moe-aa@1", "aa-standard@1, then nine attacks on routes", moe},
    {"components@1", "experts along the clean route (RA-E), router alone (RA-R)", components},
};

}  // namespace

std::vector<std::string> protocol_names() {
  std::vector<std::string> names;
  for (const Row& row : kProtocols) names.emplace_back(row.name);
  return names;
}

Protocol find_protocol(const std::string& name, const ThreatModel& threat, uint64_t seed,
                       const Model& model) {
  const Row& row =
      find_named("the protocol", name, kProtocols, [](const Row& known) { return known.name; });
  return {name, row.attacks({threat, seed, model})};
}

}  // namespace moat::attacks
