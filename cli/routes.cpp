#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/image_options.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "train/analysis/tokens.h"
#include "train/statistics.h"
#include "train/token_room.h"

namespace moat::cli {

using engine::require;
using engine::text;

namespace {

struct RoutesOptions {
  SubjectOptions subject;
  ImageOptions images;
  BallOptions ball;
  int steps = 20;
};

std::string uses(const train::GateUse& gate) {
  int64_t all = gate.dropped;
  for (int64_t n : gate.use) all += n;
  std::string out;
  for (int64_t n : gate.use)
    out += (out.empty() ? "" : " ") + percent(train::fraction(n, all), all);
  return gate.dropped ? out + ", dropped " + percent(train::fraction(gate.dropped, all), all) : out;
}

std::string conditions_text(const train::RouteAnalysis& a, const attacks::ThreatModel& within) {
  Table table({{text(a.images, " images, ", ball_text(attacks::name_of(within.norm), within.eps))},
               {"accuracy %", Align::right},
               {"gate"},
               {"use of the experts, %"},
               {"entropy", Align::right},
               {"moved %", Align::right},
               {"overlap", Align::right}});
  for (const train::Condition& c : a.conditions) {
    if (c.gates.empty())  // those inside a dual model's halves
      table.row({c.name, percent(train::fraction(c.correct, a.images), a.images), "–", "–", "–",
                 "–", "–"});
    for (const train::GateUse& g : c.gates) {
      const bool first = &g == &c.gates.front();
      table.row({first ? c.name : "",
                 first ? percent(train::fraction(c.correct, a.images), a.images) : "", g.name,
                 uses(g), fixed(g.entropy, 2), percent(g.flipped, a.images), fixed(g.overlap, 2)});
    }
  }
  return table.str();
}

// What moves is given as 1 - intersection over union, as the study of V-MoE has it.
std::string moves_text(const train::RouteAnalysis& a, const models::TokenExperts& moe) {
  Table table({{"routes of tokens"},
               {"gate"},
               {"moved: choices", Align::right},
               {"with room", Align::right},
               {"first choice %", Align::right},
               {"of class tokens %", Align::right},
               {"dropped %", Align::right},
               {"margin", Align::right}});
  for (const train::Condition& c : a.conditions)
    for (const train::GateUse& g : c.gates) {
      if (!g.tokens) continue;
      int64_t all = g.dropped;
      for (int64_t n : g.use) all += n;
      table.row({&g == &c.gates.front() ? c.name : "", g.name, fixed(1 - g.tokens->overlap, 3),
                 fixed(1 - g.overlap, 3), percent(g.tokens->first, a.images),
                 percent(g.tokens->first_of_class, a.images),
                 percent(train::fraction(g.dropped, all), all), brief(g.tokens->margin)});
    }
  return table.str() + text("moved: 1 - IoU with the clean choices; ",
                            fixed(1 - train::chance_overlap(moe.experts, moe.active), 3),
                            " of choices at random\nmargin: of the last choice's logit over the "
                            "next one's\n");
}

std::string tokens_text(const train::TokenTests& t, int64_t images) {
  const auto both = [&](const train::Correct& c) {
    return percent(train::fraction(c.clean, images), images) + " / " +
           percent(train::fraction(c.attacked, images), images);
  };
  Table table({{"accuracy %, clean / attacked"},
               {"dropped", Align::right},
               {"next ranks", Align::right},
               {"random", Align::right},
               {"replayed choices", Align::right},
               {"and weights", Align::right},
               {"jump of logits", Align::right}});
  for (const train::LayerTests& l : t.layers)
    table.row({"choices of " + l.name, both(l.dropped), both(l.next), both(l.random),
               both(l.choices), both(l.routes), l.jump ? brief(*l.jump) : "–"});
  return text("the model as it is: ", both(t.as_it_is), " % clean / attacked (pgd through)\n") +
         table.str() +
         "replayed: clean images along the routes of the attacked / attacked along the clean\n"
         "attacked: by examples for the model as it is, of which any change of it makes some miss; "
         "compare columns\n";
}

std::string margins_text(const train::Margins& m, double eps) {
  if (m.distances.empty()) return {};
  const auto near = std::lower_bound(m.distances.begin(), m.distances.end(), eps);
  const auto count = near - m.distances.begin();
  return text("the nearest other route is ", brief(m.distances[m.distances.size() / 2]),
              " away (median, to first order); nearer than eps ", brief(eps), ": ",
              percent(train::fraction(count, std::ssize(m.distances)), std::ssize(m.distances)),
              " %\n");
}

std::string experts_text(const train::ExpertTests& t, int64_t images) {
  const auto share = [&](int64_t n) { return percent(train::fraction(n, images), images); };
  Table table({{"clean accuracy"}, {"%", Align::right}});
  for (size_t e = 0; e < t.alone.size(); ++e) {
    table.row({text("expert ", e, " alone"), share(t.alone[e])});
    table.row({text("expert ", e, " left out"), share(t.dropped[e])});
  }
  table.row({"every image to its second expert", share(t.swapped)});
  table.row({"every image to a random expert", share(t.random)});
  return table.str() + text("logits jump by ", brief(t.jump), " from an image's expert to its ",
                            "second (mean), weighted by the gate ", brief(t.weighted_jump), "\n");
}

std::string components_text(const train::ComponentRobustness& r, int64_t images) {
  const auto share = [&](std::optional<int64_t> n) {
    return n ? percent(train::fraction(*n, images), images) : "–";
  };
  Table table({{"robust accuracy"}, {"frozen %", Align::right}, {"true %", Align::right}});
  table.row({"whole model", "–", share(r.whole)});
  table.row({"experts alone (RA-E)", share(r.experts), share(r.experts_true)});
  table.row({"router alone (RA-R)", share(r.router), share(r.router_true)});
  table.row({"router and experts jointly", "–", share(r.joint)});
  return table.str() + (r.experts ? "" : "no part is frozen: a soft gate has no one route\n");
}

std::string jacobian_text(const train::JacobianNorms& norms, const char* frozen) {
  return text("norm of the logits' Jacobian over ", norms.images, " images: ", brief(norms.free),
              " through the gate",
              norms.frozen ? text(", ", brief(*norms.frozen), " along the frozen ", frozen) : "",
              "\n");
}

void routes_command(const RoutesOptions& o, const Globals& globals) {
  if (o.steps < 1) throw engine::UsageError(text("--steps must be at least 1, got ", o.steps));
  Subject subject = open_subject(o.subject, globals);
  const train::Config config = set_up(subject, o.images, globals);
  const train::AnalysisSettings settings{.threat = threat_of(o.ball, subject),
                                         .steps = o.steps,
                                         .batch = o.images.batch,
                                         .seed = config.run.seed};
  const models::Classifier& model = subject.loaded.model;
  train::require_no_company(model.settings());
  const data::ImageSet set = load_for(subject.loaded, config, o.images);

  const train::RouteAnalysis routes = train::analyse_routes(model, set, settings);
  nlohmann::ordered_json document = {{"checkpoint", subject.file.string()},
                                     {"moe", train::moe_json(model.settings())},
                                     {"data", set.name},
                                     {"split", data::name_of(set.split)},
                                     {"norm", attacks::name_of(settings.threat.norm)},
                                     {"eps", settings.threat.eps},
                                     {"steps", settings.steps},
                                     {"seed", settings.seed},
                                     {"routes", train::to_json(routes)}};
  std::string people = conditions_text(routes, settings.threat);
  if (model.is_routed()) {
    const train::ExpertTests tests = train::test_experts(model, set, settings);
    const train::JacobianNorms norms = train::jacobian_norms(model, set, settings);
    const train::ComponentRobustness parts = train::component_robustness(model, set, settings);
    document["experts"] = train::to_json(tests, set.size());
    document["jacobian"] = train::to_json(norms);
    document["components"] = train::to_json(parts, set.size());
    people += margins_text(routes.margins, settings.threat.eps) + "\n" +
              experts_text(tests, set.size()) + jacobian_text(norms, "route") + "\n" +
              components_text(parts, set.size());
  } else if (model.has_token_gates()) {
    const train::TokenTests tests = train::test_tokens(model, set, settings);
    const train::JacobianNorms norms = train::jacobian_norms(model, set, settings);
    document["tokens"] = train::to_json(tests, set.size());
    document["jacobian"] = train::to_json(norms);
    people += "\n" + moves_text(routes, model.settings().transformer.moe) + "\n" +
              tokens_text(tests, set.size()) + jacobian_text(norms, "choices and weights");
  }
  print(globals, document, people);
}

}  // namespace

void add_routes(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<RoutesOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"routes", "what the gates do, clean and attacked, and what each part withstands",
                   "moat routes runs/digits-advmoe-1 --eps 0.1"},
                  [o, &globals] { routes_command(*o, globals); });
  add_subject_options(command, o->subject);
  add_ball_options(command, o->ball);
  command.add_option("--steps", o->steps, "steps of eps / 4 of each attack");
  add_image_options(command, o->images);
}

}  // namespace moat::cli
