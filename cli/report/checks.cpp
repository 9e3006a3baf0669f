#include "cli/report/checks.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "cli/number_format.h"
#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/numbers.h"

namespace moat::cli::report {

using engine::text;

namespace {

constexpr double kLeastUse = 0.2;  // of an equal share of the clean images, for each expert
constexpr double kGateGap = 0.02;  // robust accuracy, open against blocked

constexpr double kOverfitDrop = 0.05;  // validation accuracy, last against best

struct Warned {
  std::string kind;
  int times;
  std::string last;
};

// Nothing where the line is torn: the run was killed while it wrote.
Json event_of(const std::string& line, const std::string& origin) {
  try {
    return engine::parse_json<Json>(line, origin);
  } catch (const engine::Error&) {
    return Json::object();
  }
}

Verdict parse_verdict(const JsonView& status) {
  const std::string word = status.str();
  for (Verdict v : {Verdict::pass, Verdict::warn, Verdict::fail, Verdict::skip})
    if (word == name_of(v)) return v;
  status.fail("pass, warn, fail or skip");
}

Check order_check(const Evaluation& e) {
  return {e.robust <= e.clean ? Verdict::pass : Verdict::fail, "order of accuracies",
          text("SA ", percent(e.clean, e.n), ", RA ", percent(e.robust, e.n)),
          "The worst over the attacks and the clean image cannot beat the clean image."};
}

Check share_check(const Evaluation& e, double share) {
  const double equal = 1 / static_cast<double>(e.experts->clean.size());
  return {share >= kLeastUse * equal ? Verdict::pass : Verdict::warn, "expert use",
          text("least used: ", percent(share, e.n), " %"),
          text("Every expert should serve at least a fifth of an equal share, ",
               percent(kLeastUse * equal, e.n),
               " % of the images; a collapsed router makes the model a narrow dense net.")};
}

Check gate_check(const Evaluation& e, double open, double blocked) {
  const bool masks = open - blocked > kGateGap;
  return {masks ? Verdict::warn : Verdict::pass, "gate gradient",
          text("open ", percent(open, e.n), ", blocked ", percent(blocked, e.n)),
          masks ? "The attack is stronger with the gate's gradient blocked: the gate masks "
                  "gradients, and the open number alone would flatter the model."
                : "Attacking through the gate does not look stronger for the model than with the "
                  "gate's gradient blocked."};
}

// "0.00534 (at most 0.05)"; "–" of a check that was skipped. A value may be text.
std::string found(const JsonView& check) {
  if (parse_verdict(check.at("status")) == Verdict::skip) return "–";
  const std::string value = check.str_or("value", "");
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size()) return value;
  const auto limit = check.find("threshold");
  return limit ? text(brief(number), " (at most ", brief(limit->number()), ")") : brief(number);
}

// Those of the evaluation itself.
std::vector<Check> own_checks(const JsonView& report) {
  std::vector<Check> out;
  if (const auto own = report.find("checks"))
    for (const JsonView& c : own->items())
      out.push_back(
          {parse_verdict(c.at("status")), c.at("id").str(), found(c), c.str_or("explain", "")});
  return out;
}

// What G5, G6 and G7b say, of an evaluation without them.
void add_verification(const Evaluation& e, const JsonView& root, std::vector<Check>& out) {
  const auto verify = root.find("verify"), threat = root.find("threat");
  if (!verify) return;
  const std::string norm = threat ? threat->str_or("norm", "linf") : "linf";
  const std::string key = norm == "l2" ? "largest_l2" : "largest_linf";
  const double eps = threat ? threat->number_or("eps", NAN) : NAN;
  if (const auto largest = verify->find(key); largest && !std::isnan(eps)) {
    const double room = 1e-5 * std::max(1.0, eps);  // float32 rounding of x + δ
    const bool inside = largest->number() <= eps + room;
    out.push_back({inside ? Verdict::pass : Verdict::fail, "distance",
                   text("largest ", norm, " ", brief(largest->number()), " of ", brief(eps)),
                   "No adversarial image may be farther away than the radius."});
  }
  if (const auto changed = verify->find("changed_in_other_batches"))
    out.push_back({changed->count() == 0 ? Verdict::pass : Verdict::fail, "batch independence",
                   text(changed->count(), " of ", e.n, " changed"),
                   "Adversarial images were judged again in other batches."});
  if (const auto untouched = verify->find("model_untouched"))
    out.push_back({untouched->json() == true ? Verdict::pass : Verdict::fail, "model untouched",
                   untouched->json().dump(), "An attack must not change the model."});
}

}  // namespace

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::pass:
      return "pass";
    case Verdict::warn:
      return "warn";
    case Verdict::fail:
      return "fail";
    case Verdict::skip:
      return "skip";
  }
  return "unknown";
}

std::vector<Check> checks(const Evaluation& e) {
  const JsonView root(e.report, e.folder / "report.json");
  const std::vector<Check> own = own_checks(root);
  const auto has = [&](const std::string& id) {
    return std::ranges::any_of(own,
                               [&](const Check& c) { return c.subject.starts_with(id + " "); });
  };
  std::vector<Check> out{order_check(e)};
  const auto share = smallest_share(e);
  if (share && !has("M11")) out.push_back(share_check(e, *share));
  if (e.gate_open() && e.gate_blocked())
    out.push_back(gate_check(e, *e.gate_open(), *e.gate_blocked()));
  if (!has("G7b")) add_verification(e, root, out);
  out.insert(out.end(), own.begin(), own.end());
  return out;
}

std::optional<ValidationCourse> validation_course(const Run& run) {
  const char* column = run.method == "natural" ? "val_clean" : "val_robust";
  const std::vector<double> epochs = run.metrics.numbers("epoch"),
                            values = run.metrics.numbers(column);
  std::optional<ValidationCourse> course;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    if (!course || values[i] > course->best)
      course = {values[i], values[i], static_cast<int>(epochs[i]) + 1};
    course->last = values[i];
  }
  return course;
}

Check overfitting_check(const ValidationCourse& course) {
  constexpr int64_t kFew = 1000;  // a validation split shows no second decimal
  const bool falls = course.best - course.last > kOverfitDrop;
  return {falls ? Verdict::warn : Verdict::pass, "overfitting",
          text("best ", percent(course.best, kFew), " % (epoch ", course.best_epoch, "), last ",
               percent(course.last, kFew), " %"),
          "Accuracy on the validation split while training; checkpoints/best keeps the best one."};
}

std::vector<Check> training_warnings(const Run& run) {
  const std::filesystem::path file = run.folder / "events.jsonl";
  std::vector<Warned> out;
  if (!std::filesystem::exists(file)) return {};
  std::istringstream lines(engine::read_file(file, int64_t{256} << 20));
  for (std::string line; std::getline(lines, line);) {
    const Json event = event_of(line, file.string());
    const auto is_text = [&](const char* key) {
      return event.contains(key) && event[key].is_string();
    };
    if (!is_text("event") || !is_text("what")) continue;  // a torn line, or not a warning
    const std::string kind = event["event"], what = event["what"];
    auto same =
        std::find_if(out.begin(), out.end(), [&](const Warned& w) { return w.kind == kind; });
    if (same == out.end()) same = out.insert(out.end(), {kind, 0, ""});
    ++same->times;
    same->last = what;
  }
  std::vector<Check> list;
  list.reserve(out.size());
  for (const Warned& w : out)
    list.push_back({w.kind == "diverged" ? Verdict::fail : Verdict::warn, w.kind,
                    text(w.times, w.times == 1 ? " time" : " times"), w.last});
  return list;
}

}  // namespace moat::cli::report
