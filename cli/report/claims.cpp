#include "cli/report/claims.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "cli/number_format.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

constexpr double kPaperEps = 8.0 / 255;

double mean(const std::vector<double>& values) { return train::mean_deviation(values).mean; }

const SameRuns* find(const std::vector<SameRuns>& groups,
                     const std::function<bool(const SameRuns&)>& is_it) {
  const auto at = std::find_if(groups.begin(), groups.end(), is_it);
  return at == groups.end() ? nullptr : &*at;
}

bool is_mixture(const SameRuns& g) {
  return g.runs.front()->evaluations.empty() ? g.model.find("moe") != std::string::npos
                                             : g.runs.front()->evaluations[0].experts.has_value();
}

// Why a claim on CIFAR-10 within 8/255 says nothing about these runs; empty where it does.
std::string why_not(const SameRuns& g) {
  if (g.data != "cifar10") return text("published on CIFAR-10, measured on ", g.data);
  if (std::abs(g.eps - kPaperEps) > 1e-9) return text("published within 8/255, not ", brief(g.eps));
  return {};
}

std::string points(double difference) {
  return text(difference < 0 ? "−" : "+", fixed(100 * std::abs(difference), 1), " points");
}

// The strongest evaluation that both have.
std::pair<double, double> robust_of_both(const SameRuns& a, const SameRuns& b) {
  for (const char* protocol : {"moe-aa@1", "aa-standard@1", "pgd-50@1"}) {
    double first = mean(a.robust(protocol)), second = mean(b.robust(protocol));
    if (protocol == std::string("moe-aa@1") && std::isnan(second))  // of a dense net
      second = mean(b.robust("aa-standard@1"));
    if (!std::isnan(first) && !std::isnan(second)) return {first, second};
  }
  return {NAN, NAN};
}

Claim judged(const SameRuns& g, std::string source, std::string says, std::string measured,
             bool holds) {
  const std::string reason = why_not(g);
  const Standing standing = !reason.empty() ? Standing::not_comparable
                            : holds         ? Standing::met
                                            : Standing::not_met;
  return {std::move(source), std::move(says), std::move(measured), standing, reason};
}

void about_advmoe(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* moe = find(groups, [](const SameRuns& g) { return g.method == "advmoe"; });
  const SameRuns* dense = find(groups, [](const SameRuns& g) {
    return (g.method == "at" || g.method == "trades") && !is_mixture(g);
  });
  if (!moe) return;
  const char *source = "AdvMoE (arXiv 2308.10110, abstract)",
             *more = "1 to 4 points more robust than the dense network",
             *cheaper = "at less than half of its inference cost";
  if (!dense) {
    out.push_back({source, more, "–", Standing::not_comparable,
                   "no dense network among the runs, trained by at or trades"});
    return;
  }
  const auto [ours, theirs] = robust_of_both(*moe, *dense);
  if (std::isnan(ours))
    out.push_back({source, more, "–", Standing::not_comparable,
                   "the two are not evaluated by the same protocol"});
  else
    out.push_back(judged(*moe, source, more, points(ours - theirs), ours - theirs >= 0.01));
  out.push_back(judged(*moe, source, cheaper,
                       text(fixed(100 * moe->macs / dense->macs, 0), " % of its MACs"),
                       moe->macs < dense->macs / 2));
}

void about_rt_er(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* g = find(groups, [](const SameRuns& r) { return r.method == "rt-er"; });
  if (!g) return;
  const char* source = "RT-ER (arXiv 2502.06832, as quoted by Kaijie-liu/ACT)";
  const auto number = [&](const std::string& says, double measured, double claimed) {
    if (std::isnan(measured)) return;
    out.push_back(
        judged(*g, source, says, text(percent(measured, g->images()), " %"), measured >= claimed));
  };
  number("SA 77.81 %", mean(g->clean()), 0.7781);
  number("RA by PGD-50 69.09 %", mean(g->robust("pgd-50@1")), 0.6909);
  number("AutoAttack 54.36 %", mean(g->robust("aa-standard@1")), 0.5436);
  number("experts alone (RA-E) 75.71 %", mean(g->alone("components@1", "experts (RA-E)")), 0.7571);
  number("router alone (RA-R) 72.28 %", mean(g->alone("components@1", "router (RA-R)")), 0.7228);
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
  const auto [ours, theirs] = robust_of_both(*joint, *apart);
  const double accuracy = mean(joint->clean()) - mean(apart->clean());
  if (std::isnan(ours) || std::isnan(accuracy)) {
    out.push_back({source, says, "–", Standing::not_comparable,
                   "the two are not evaluated by the same protocol"});
    return;
  }
  out.push_back(judged(*joint, source, says,
                       text(points(ours - theirs), " robust, ", points(accuracy),
                            " accurate, against its robust half by rt-er"),
                       ours > theirs && accuracy > 0));
}

// A number far above what public logs have is a broken attack until shown otherwise.
void about_dense(const std::vector<SameRuns>& groups, std::vector<Claim>& out) {
  const SameRuns* dense = find(groups, [](const SameRuns& g) {
    return g.method == "at" && g.model == "resnet18" && !g.robust("aa-standard@1").empty();
  });
  if (!dense) return;
  const double measured = mean(dense->robust("aa-standard@1"));
  out.push_back(judged(*dense, "public logs of FastAT and MAIR",
                       "AutoAttack on ResNet-18, adversarial training: 44.33 to 48.67 %",
                       text(percent(measured, dense->images()), " %"),
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
  for (auto* about : {about_advmoe, about_rt_er, about_jtdmoe, about_dense}) about(groups, out);
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
