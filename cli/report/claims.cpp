#include "cli/report/claims.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "cli/number_format.h"
#include "cli/report/conditions.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

constexpr double kPaperEps = 8.0 / 255;

double mean(const Measured& of) { return train::mean_deviation(of.values).mean; }

const SameRuns* find(const std::vector<SameRuns>& groups,
                     const std::function<bool(const SameRuns&)>& is_it) {
  const auto at = std::find_if(groups.begin(), groups.end(), is_it);
  return at == groups.end() ? nullptr : &*at;
}

bool is_mixture(const SameRuns& g) {
  return g.runs.front()->evaluations.empty() ? g.model.find("moe") != std::string::npos
                                             : g.runs.front()->evaluations[0].experts.has_value();
}

// "moe-resnet18" -> "resnet18", "digits-moe-resnet" -> "digits-resnet".
std::string dense_name(std::string mixture) {
  if (const size_t at = mixture.find("moe-"); at != std::string::npos) mixture.erase(at, 4);
  return mixture;
}

// Dense, and neither narrowed nor thinned out by the run's settings.
bool is_whole(const SameRuns& g) {
  const Run& run = *g.runs.front();
  const auto model = JsonView(run.config, run.folder / "config.json").at("model");
  const double ratio = model.number_or("ratio", 0);
  return !is_mixture(g) && (ratio == 0 || ratio == 1) && model.number_or("kept", 1) == 1;
}

// Why a claim on CIFAR-10 within 8/255 says nothing about these runs and their attacks; empty where
// it does. `attacked`: null where the claim is not about attacks.
std::string why_not(const SameRuns& g, const Evaluation* attacked) {
  if (g.data != "cifar10") return text("published on CIFAR-10, measured on ", g.data);
  if (std::abs(g.eps - kPaperEps) > 1e-9) return text("published within 8/255, not ", brief(g.eps));
  if (attacked && (attacked->norm != "linf" || !(std::abs(attacked->eps - kPaperEps) < 1e-9)))
    return text("published within 8/255, attacked within ", attacked->ball());
  return {};
}

std::string points(double difference) {
  return text(difference < 0 ? "−" : "+", fixed(100 * std::abs(difference), 1), " points");
}

// What two configurations measured in the same way.
struct Pair {
  Measured first, second;
  std::string why_not = {};  // there are none, and why
  double difference() const { return mean(first) - mean(second); }
};

Pair pair_of(Measured first, Measured second, Conditions (*conditions)(const Evaluation&)) {
  std::string why;
  for (const Measured* side : {&first, &second})
    if (why.empty()) why = side->differing;
  if (why.empty() && first.like && second.like)
    why = differing(conditions(*first.like), conditions(*second.like));
  if (!why.empty()) return {{}, {}, text("the evaluations differ in ", why)};
  if (!first.like || !second.like)
    return {{}, {}, "the two are not evaluated by the same protocol"};
  return {std::move(first), std::move(second)};
}

// By the strongest protocol that both have.
Pair robust_of_both(const SameRuns& a, const SameRuns& b) {
  std::string why_not;
  for (const char* protocol : {"moe-aa@1", "aa-standard@1", "pgd-50@1"}) {
    Measured second = b.robust(protocol);
    if (protocol == std::string("moe-aa@1") && !second.like)  // of a dense net
      second = b.robust("aa-standard@1");
    Pair pair = pair_of(a.robust(protocol), std::move(second), conditions_of);
    if (pair.why_not.empty()) return pair;
    if (why_not.empty() || pair.why_not.starts_with("the evaluations")) why_not = pair.why_not;
  }
  return {{}, {}, why_not};
}

Claim judged(const SameRuns& g, const Evaluation* attacked, std::string source, std::string says,
             std::string measured, bool holds) {
  const std::string reason = why_not(g, attacked);
  const Standing standing = !reason.empty() ? Standing::not_comparable
                            : holds         ? Standing::met
                                            : Standing::not_met;
  return {std::move(source), std::move(says), std::move(measured), standing, reason};
}

void about_advmoe(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* moe = find(groups, [](const SameRuns& g) { return g.method == "advmoe"; });
  if (!moe) return;
  const auto dense_by = [&](const char* method) {
    return find(groups, [&](const SameRuns& g) {
      return g.method == method && g.model == dense_name(moe->model) && is_whole(g);
    });
  };
  const SameRuns* dense = dense_by("trades");  // the loss of AdvMoE and of its dense baseline
  if (!dense) dense = dense_by("at");
  const char *source = "AdvMoE (arXiv 2308.10110, abstract)",
             *more = "1 to 4 points more robust than the dense network",
             *cheaper = "at less than half of its inference cost";
  if (!dense) {
    out.push_back(
        {source, more, "–", Standing::not_comparable,
         text("no ", dense_name(moe->model), " among the runs, trained by at or trades")});
    return;
  }
  const Pair robust = robust_of_both(*moe, *dense);
  if (!robust.why_not.empty())
    out.push_back({source, more, "–", Standing::not_comparable, robust.why_not});
  else
    out.push_back(judged(*moe, robust.first.like, source, more,
                         text(points(robust.difference()), " against ", dense->method),
                         robust.difference() >= 0.01));
  out.push_back(judged(*moe, nullptr, source, cheaper,
                       text(fixed(100 * moe->macs / dense->macs, 0), " % of its MACs"),
                       moe->macs < dense->macs / 2));
}

void about_rt_er(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* g = find(groups, [](const SameRuns& r) {
    return r.method == "rt-er" && r.model == "networks-resnet18";
  });
  if (!g) return;
  const char* source = "RT-ER (arXiv 2502.06832, as quoted by Kaijie-liu/ACT)";
  const auto number = [&](const std::string& says, const Measured& measured,
                          const Evaluation* attacked, double claimed) {
    if (!measured.differing.empty())
      out.push_back({source, says, "–", Standing::not_comparable,
                     text("the evaluations differ in ", measured.differing)});
    if (!measured.like) return;
    out.push_back(judged(*g, attacked, source, says,
                         text(percent(mean(measured), measured.like->n), " %"),
                         mean(measured) >= claimed));
  };
  const auto under_attack = [&](const std::string& says, const Measured& measured, double claimed) {
    number(says, measured, measured.like, claimed);
  };
  number("SA 77.81 %", g->clean(), nullptr, 0.7781);
  under_attack("RA by PGD-50 69.09 %", g->robust("pgd-50@1"), 0.6909);
  under_attack("AutoAttack 54.36 %", g->robust("aa-standard@1"), 0.5436);
  // The paper leaves open whether such points are judged along the clean route or by the model.
  const auto alone = [&](const char* says, const char* attack) {
    const Measured measured = g->alone("components@1", attack);
    if (measured.like)
      out.push_back({source, says, text(percent(mean(measured), measured.like->n), " %"),
                     Standing::not_comparable,
                     "here the model as it is judges; the paper does not say which one does"});
  };
  alone("experts alone (RA-E) 75.71 %", "experts (RA-E)");
  alone("router alone (RA-R) 72.28 %", "router (RA-R)");
}

void about_jtdmoe(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* joint = find(groups, [](const SameRuns& g) { return g.method == "jtdmoe"; });
  const SameRuns* apart = find(groups, [](const SameRuns& g) { return g.method == "rt-er"; });
  if (!joint) return;
  const char *source = "JTDMoE (arXiv 2502.06832, abstract)",
             *says = "more robust and more accurate than models trained apart";
  if (!apart) {
    out.push_back({source, says, "–", Standing::not_comparable, "no rt-er among the runs"});
    return;
  }
  const Pair robust = robust_of_both(*joint, *apart),
             clean = pair_of(joint->clean(), apart->clean(), clean_conditions_of);
  for (const Pair* pair : {&robust, &clean})
    if (!pair->why_not.empty()) {
      out.push_back({source, says, "–", Standing::not_comparable, pair->why_not});
      return;
    }
  // The paper mixes the two that were trained apart; such a mixture is an evaluation, no run.
  out.push_back(
      {source, says,
       text(points(robust.difference()), " robust, ", points(clean.difference()),
            " accurate, against its robust half by rt-er"),
       Standing::not_comparable,
       "claimed against a mixture of the two halves trained apart: moat mix measures it"});
}

// Each mixture of tokens' experts beside a transformer that was trained alike and costs as much.
void about_v_moe(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  constexpr double kAlike = 0.05;  // of the cost
  const char *source = "V-MoE study (arXiv 2210.10253, abstract)",
             *says = "more robust than a dense network of the same cost";
  for (const SameRuns& moe : groups) {
    if (moe.model.find("v-moe") == std::string::npos) continue;
    const SameRuns* dense = find(groups, [&](const SameRuns& g) {
      return g.model.find("vit") != std::string::npos && g.method == moe.method &&
             g.eps == moe.eps && std::abs(g.macs / moe.macs - 1) <= kAlike;
    });
    if (!dense) continue;
    const Pair robust = robust_of_both(moe, *dense);
    out.push_back({source, says,
                   robust.why_not.empty()
                       ? text(points(robust.difference()), ", ", moe.name, " against ", dense->name)
                       : "–",
                   Standing::not_comparable,
                   robust.why_not.empty() ? "published of models that were trained on JFT first"
                                          : robust.why_not});
  }
}

// A number far above what public logs have is a broken attack until shown otherwise.
void about_dense(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* dense = find(groups, [](const SameRuns& g) {
    return g.method == "at" && g.model == "resnet18" && is_whole(g) &&
           g.robust("aa-standard@1").like;
  });
  if (!dense) return;
  const Measured attacked = dense->robust("aa-standard@1");
  const double measured = mean(attacked);
  out.push_back(judged(*dense, attacked.like, "public logs of FastAT and MAIR",
                       "AutoAttack on ResNet-18, adversarial training: 44.33 to 48.67 %",
                       text(percent(measured, attacked.like->n), " %"),
                       measured >= 0.4433 && measured <= 0.52));
}

}  // namespace

const char* name_of(Standing standing) {
  switch (standing) {
    case Standing::met:
      return "met";
    case Standing::not_met:
      return "not met";
    case Standing::not_comparable:
      return "not comparable";
  }
  return "unknown";
}

std::vector<Claim> claims_about(const std::vector<SameRuns>& groups) {
  std::vector<Claim> out;
  for (auto* about : {about_advmoe, about_rt_er, about_jtdmoe, about_v_moe, about_dense})
    about(groups, out);
  return out;
}

Table claims_table(const std::vector<Claim>& claims) {
  Table table({{"source"}, {"claim"}, {"measured"}, {"standing"}, {"reason"}});
  for (const Claim& c : claims)
    table.row({c.source, c.says, c.measured, name_of(c.standing), c.reason});
  return table;
}

Json claims_json(const std::vector<Claim>& claims) {
  Json list = Json::array();
  for (const Claim& c : claims)
    list.push_back({{"source", c.source},
                    {"claim", c.says},
                    {"measured", c.measured},
                    {"standing", name_of(c.standing)},
                    {"reason", c.reason}});
  return list;
}

}  // namespace moat::cli::report
