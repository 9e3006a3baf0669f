#include "cli/report/page.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cli/number_format.h"
#include "cli/report/certificate.h"
#include "cli/report/checks.h"
#include "cli/report/claims.h"
#include "cli/report/comparison.h"
#include "cli/report/course.h"
#include "cli/report/curves.h"
#include "cli/report/differences.h"
#include "cli/report/gallery.h"
#include "cli/report/headline.h"
#include "cli/report/html.h"
#include "cli/report/style.h"
#include "cli/report/svg.h"
#include "engine/error.h"
#include "train/statistics.h"

namespace moat::cli::report {

using engine::text;

namespace {

std::string heading(int level, std::string_view title) {
  return text("<h", level, ">", escaped(title), "</h", level, ">\n");
}

std::string charts(const std::vector<std::string>& drawn) {
  std::string all;
  for (const std::string& chart : drawn)
    if (!chart.empty()) all += "<div>" + chart + "</div>\n";
  return all.empty() ? "" : "<div class=\"charts\">\n" + all + "</div>\n";
}

// --- training curves

std::string training(const Run& run) {
  std::string out = heading(3, "Training");
  if (run.metrics.rows.empty())
    return out + paragraph("No epoch is recorded yet (metrics.csv has no rows).", "missing");
  std::vector<Series> shares;
  for (int e = 0; run.metrics.column(text("share_", e)) >= 0; ++e)
    shares.push_back(course_of(run, text("share_", e), text("expert ", e), e,
                               e < kSeriesColours ? Stroke::solid : Stroke::dashed));
  const auto chart = [&](const char* title, Unit unit, std::vector<Series> series) {
    return line_chart({title, "epoch", unit, present(std::move(series))});
  };
  out += charts({chart("Accuracy", Unit::percent,
                       {course_of(run, "val_clean", "clean, validation", 0),
                        course_of(run, "val_robust", "robust, validation", 1),
                        course_of(run, "train_clean", "clean, train", 0, Stroke::dashed),
                        course_of(run, "train_robust", "robust, train", 1, Stroke::dashed)}),
                 chart("Training loss", Unit::plain, {course_of(run, "train_loss", "loss", 2)}),
                 chart("Images per expert in training", Unit::percent, shares),
                 chart("Learning rate", Unit::plain, {course_of(run, "lr", "rate", 6)})});
  if (shares.empty())
    out += paragraph("Only a model that routes whole images has shares of experts.", "note");
  return out;
}

// --- an evaluation

std::string classes(const Evaluation& e) {
  constexpr size_t kMost = 24;
  if (e.classes.empty()) return {};
  std::vector<ClassResult> shown = e.classes;
  std::string title = "Accuracy per class";
  if (shown.size() > kMost) {
    std::erase_if(shown, [](const ClassResult& c) { return c.n == 0; });
    std::stable_sort(shown.begin(), shown.end(), [](const ClassResult& a, const ClassResult& b) {
      return a.robust < b.robust;
    });
    shown.resize(std::min(kMost, shown.size()));
    title = text("Accuracy per class, the ", shown.size(), " least robust of ", e.classes.size());
  }
  BarChart chart{title, {"clean", "robust"}, {}};
  for (const ClassResult& c : shown) {
    const auto bar = [&](double accuracy) {
      return c.n == 0 ? Bar{NAN}
                      : Bar{accuracy,
                            train::wilson_interval(
                                std::llround(accuracy * static_cast<double>(c.n)), c.n),
                            text(" of ", c.n)};
    };
    chart.groups.push_back({c.name, {bar(c.clean), bar(c.robust)}});
  }
  return bar_chart(chart);
}

std::string expert_map(const Evaluation& e, const std::vector<ExpertUse::Counts>& counts,
                       const std::string& title) {
  constexpr size_t kMostRows = 100, kMostColumns = 64;
  if (counts.empty() || static_cast<size_t>(e.experts->experts) > kMostColumns) return {};
  HeatMap map{title, "class", "expert", {}, {}, {}, {}};
  for (int64_t i = 0; i < e.experts->experts; ++i) map.columns.push_back(std::to_string(i));
  for (size_t c = 0; c < std::min(kMostRows, counts.size()); ++c) {
    const std::string name = c < e.classes.size() ? e.classes[c].name : std::to_string(c);
    double total = 0;
    for (int64_t n : counts[c]) total += static_cast<double>(n);
    map.rows.push_back(name);
    map.shade.emplace_back();
    map.tooltips.emplace_back();
    for (size_t i = 0; i < counts[c].size(); ++i) {
      const double share = total > 0 ? static_cast<double>(counts[c][i]) / total : NAN;
      map.shade.back().push_back(share);
      map.tooltips.back().push_back(text("class ", name, ", expert ", i, ": ", counts[c][i], " of ",
                                         static_cast<int64_t>(total), " images"));
    }
  }
  return heat_map(map);
}

std::string experts(const Evaluation& e) {
  std::string out = heading(3, "Experts");
  if (!e.experts)
    return out +
           paragraph("The model does not route whole images. `moat routes` shows where tokens go.",
                     "missing");
  const ExpertUse& use = *e.experts;
  Table table({{"expert"},
               {"clean images", Align::right},
               {"share %", Align::right},
               {"adversarial images", Align::right},
               {"share %", Align::right}});
  const auto total = [](const ExpertUse::Counts& counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  };
  const auto share = [](int64_t part, int64_t whole) {
    return whole ? percent(static_cast<double>(part) / static_cast<double>(whole), whole) : "–";
  };
  for (size_t i = 0; i < use.clean.size(); ++i)
    table.row({std::to_string(i), std::to_string(use.clean[i]),
               share(use.clean[i], total(use.clean)), std::to_string(use.adversarial[i]),
               share(use.adversarial[i], total(use.adversarial))});
  out += html_table(table);
  std::string sentence =
      text("Entropy of the use, 1 being even: ", fixed(train::normalized_entropy(use.clean), 3),
           " clean, ", fixed(train::normalized_entropy(use.adversarial), 3), " adversarial.");
  if (use.flip_rate)
    sentence += " The attack moved " + percent(*use.flip_rate, e.n) + " % to another expert.";
  out += paragraph(sentence, "note");
  return out + charts({expert_map(e, use.class_clean, "Share of each class per expert, clean, %"),
                       expert_map(e, use.class_adversarial,
                                  "Share of each class per expert, adversarial, %")});
}

const char* mark_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::pass:
      return "✓";
    case Verdict::warn:
      return "⚠";
    case Verdict::fail:
      return "✗";
    case Verdict::skip:
      return "–";
  }
  return "";
}

std::string checks_table(const std::vector<Check>& list) {
  Table table({{"check"}, {"verdict"}, {"found"}, {"meaning"}});
  for (const Check& c : list)
    table.row({c.subject, text(mark_of(c.verdict), " ", name_of(c.verdict)), c.value, c.meaning});
  return "<div class=\"wrap\">" + html_table(table) + "</div>\n";
}

std::string under_attack(const Evaluation& e) {
  Table table({{"accuracy"}, {"%", Align::right}, {"95 % interval", Align::right}});
  const auto row = [&](const std::string& name, double value, const train::Interval& i) {
    table.row({name, percent(value, e.n), percent(i.low, e.n) + " … " + percent(i.high, e.n)});
  };
  row("clean (SA)", e.clean, e.clean_interval);
  row("robust (RA): worst of all", e.robust, e.robust_interval);
  const auto attacked = [&](const std::string& name, double accuracy) {
    row(name, accuracy,
        train::wilson_interval(std::llround(accuracy * static_cast<double>(e.n)), e.n));
  };
  for (const auto& [name, accuracy] : e.alone) attacked(name + " alone", accuracy);
  if (e.alone.empty())  // each attack saw what the ones before had left
    for (const auto& [name, accuracy] : e.after) attacked("after " + name, accuracy);
  std::string out = heading(3, "Under attack: " + e.title());
  out += "<div class=\"charts\"><div>" + html_table(table) + "</div>";
  out += "<div>" + classes(e) + "</div></div>\n";
  return out + charts(check_curves(e)) + heading(3, "Checks") + checks_table(checks(e));
}

// The constants of the threat and of each attack, then everything else the report holds but the
// results that are drawn above.
std::string constants(const Evaluation& e) {
  Json threat = Json::object(), rest = Json::object();
  for (const auto& [key, value] : e.report.items()) {
    if (key == "threat" || key == "protocol") threat[key] = value;
    if (key != "threat" && key != "protocol" && key != "results" && key != "moe" && key != "checks")
      rest[key] = value;
  }
  std::string attacks;
  if (const auto found = threat["protocol"].find("attacks");
      found != threat["protocol"].end() && found->is_array()) {
    for (const Json& attack : *found)
      if (attack.is_object()) attacks += json_table(attack);
    threat["protocol"].erase("attacks");
  }
  return fold("Threat and protocol, every constant", json_table(threat) + attacks) +
         fold("Provenance of the evaluation", json_table(rest));
}

// --- a certificate

std::string proven(const Certificate& c) {
  std::string out = heading(3, "Proven") + html_table(certified_table(c)) +
                    paragraph(radii_note(c), "note") + charts({certified_chart(c)});
  const std::string about = "<div class=\"wrap\">" + html_table(proofs_table(c)) + "</div>\n" +
                            html_table(constants_table(c)) + paragraph(constants_note(c), "note");
  Json rest = c.document;
  for (const char* shown : {"results", "methods", "constants"}) rest.erase(shown);
  return out + fold("Proofs and Lipschitz constants", about) +
         fold("Provenance of the certificate", json_table(rest));
}

std::string side_by_side(const std::vector<Run>& runs) {
  const std::vector<SameRuns> groups = same_runs(runs);
  std::string out = heading(3, "Side by side, mean ± standard deviation over seeds") +
                    html_table(side_by_side_table(groups));
  for (const std::string& note : side_by_side_notes(groups)) out += paragraph(note, "note");
  if (const auto between = differences_between(groups); !between.empty())
    out += heading(3, "Image by image, beside the first configuration") +
           html_table(run_differences_table(between)) + paragraph(kRunDifferencesNote, "note");
  if (const auto claims = claims_about(groups); !claims.empty())
    out += heading(3, "What the papers say") + "<div class=\"wrap\">" +
           html_table(claims_table(claims)) + "</div>\n";
  return out;
}

std::string run_section(const Run& run, size_t number) {
  std::string out = text("<section class=\"run\" id=\"run-", number, "\">\n");
  out += heading(2, run.name);
  std::string lede = text(run.method, " · ", run.model);
  if (!std::isnan(run.parameters)) lede += " · " + count(run.parameters) + " parameters";
  if (!std::isnan(run.macs)) lede += " · " + count(run.macs) + " MACs per image";
  if (!run.metrics.rows.empty()) {
    lede +=
        text(" · ", run.metrics.rows.size(), run.metrics.rows.size() == 1 ? " epoch" : " epochs");
    if (!std::isnan(run.train_seconds)) lede += " in " + duration(run.train_seconds);
  }
  if (!run.unfinished.empty()) lede += " · " + run.unfinished;
  out += paragraph(lede, "lede") + training(run);
  if (const auto course = validation_course(run)) out += checks_table({overfitting_check(*course)});
  if (const auto warnings = training_warnings(run); !warnings.empty())
    out += heading(4, "What training warned of") + checks_table(warnings);
  if (run.evaluations.empty())
    out += heading(3, "Under attack") +
           paragraph("This run is not evaluated yet: `moat eval` writes its robust accuracy.",
                     "missing");
  if (const auto found = differences_of(run); !found.empty())
    out +=
        heading(3, "Evaluations against each other") +
        paragraph("An attack that is stronger should fool whatever a weaker one fools.", "note") +
        "<div class=\"wrap\">" + html_table(differences_table(found)) + "</div>\n";
  for (const Evaluation& e : run.evaluations)
    out += under_attack(e) + experts(e) + heading(3, "Pictures") + gallery(e) +
           heading(3, "Constants") + constants(e);
  if (run.certificate) out += proven(*run.certificate);
  return out + fold("Configuration of the run", json_table(run.config)) + "</section>\n";
}

std::string tool_version(const std::vector<Run>& runs) {
  for (const Run& run : runs)
    if (const auto tool = JsonView(run.config, run.folder / "config.json").find("tool"))
      return "moat " + tool->str_or("version", "") + " · ";
  return {};
}

}  // namespace

std::string page(const std::vector<Run>& runs) {
  std::string title = runs.size() == 1 ? runs[0].name : text(runs.size(), " runs");
  std::string out =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "img-src data:; style-src 'unsafe-inline'\">\n<title>" +
      escaped(title) + " – moat report</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n";
  out += text("<header>\n", kHeading, "\n") + paragraph(tool_version(runs) + title, "lede");
  if (runs.size() > 1) {
    out += "<nav>\n";
    for (size_t i = 0; i < runs.size(); ++i)
      out += text("<a href=\"#run-", i + 1, "\">", escaped(runs[i].name), "</a>\n");
    out += "</nav>\n";
  }
  out += "</header>\n<section>\n" + heading(2, "Results");
  out += html_table(headline_table(runs));
  for (const std::string& note : headline_notes(runs)) out += paragraph(note, "note");
  if (runs.size() > 1) out += side_by_side(runs);
  std::vector<std::string> drawn;
  for (const NamedChart& chart : comparison_charts(runs)) drawn.push_back(chart.svg);
  out += charts(drawn) + "</section>\n";
  for (size_t i = 0; i < runs.size(); ++i) out += run_section(runs[i], i + 1);
  return out + "</body>\n</html>\n";
}

}  // namespace moat::cli::report
