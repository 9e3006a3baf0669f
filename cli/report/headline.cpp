#include "cli/report/headline.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/number_format.h"
#include "cli/report/checks.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::text;

namespace {

constexpr const char* kNone = "–";

bool is_routed(const std::vector<Run>& runs) {
  for (const Run& run : runs)
    for (const Evaluation& e : run.evaluations)
      if (e.gate_open() || e.gate_blocked()) return true;
  return false;
}

// "359 test".
std::string images_of(const Evaluation& e) {
  const JsonView data = JsonView(e.report, e.folder / "report.json").at("data");
  return text(e.n, " ", data.str_or("split", ""));
}

// "last", the checkpoint's name; "–" where the file does not say it.
std::string checkpoint_of(const Evaluation& e) {
  const auto model = JsonView(e.report, e.folder / "report.json").find("model");
  const std::filesystem::path file = model ? model->str_or("file", "") : "";
  return file.empty() ? kNone : file.stem().string();
}

// How many different answers the evaluations give.
template <class Question>
size_t count_different(const std::vector<Run>& runs, Question question) {
  std::set<std::string> answers;
  for (const Run& run : runs)
    for (const Evaluation& e : run.evaluations) answers.insert(question(e));
  return answers.size();
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json number(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

}  // namespace

Table headline_table(const std::vector<Run>& runs) {
  const bool protocols = count_different(runs, [](const Evaluation&e) { return e.protocol; }) > 1,
             rooms = count_different(runs, [](const Evaluation&e) { return e.room; }) > 1,
             balls = count_different(runs, [](const Evaluation&e) { return e.ball(); }) > 1,
             checkpoints = count_different(runs, checkpoint_of) > 1,
             images = count_different(runs, images_of) > 1, routed = is_routed(runs);
  std::vector<Column> columns{{"run"}, {"method"}, {"model"}};
  if (protocols) columns.push_back({"protocol"});
  if (rooms) columns.push_back({"room"});
  if (balls) columns.push_back({"within"});
  if (checkpoints) columns.push_back({"checkpoint"});
  if (images) columns.push_back({"images", Align::right});
  for (const char* title : {"SA %", "RA %", "95 % interval"})
    columns.push_back({title, Align::right});
  if (routed) {
    columns.push_back({"gate open", Align::right});
    columns.push_back({"blocked", Align::right});
  }
  for (const char* title : {"parameters", "MACs/image", "training", "evaluation"})
    columns.push_back({title, Align::right});

  Table table(columns);
  const auto row = [&](const Run& run, const Evaluation* e) {
    const auto share = [&](const std::optional<double>& v) {
      return v && e ? percent(*v, e->n) : std::string(kNone);
    };
    std::vector<std::string> cells{
        run.unfinished.empty() ? run.name : run.name + " (" + run.unfinished + ")", run.method,
        run.model};
    if (protocols) cells.push_back(e ? e->protocol : kNone);
    if (rooms) cells.push_back(e && !e->room.empty() ? e->room : kNone);
    if (balls) cells.push_back(e ? e->ball() : kNone);
    if (checkpoints) cells.push_back(e ? checkpoint_of(*e) : kNone);
    if (images) cells.push_back(e ? images_of(*e) : kNone);
    cells.push_back(e ? percent(e->clean, e->n) : kNone);
    cells.push_back(e ? percent(e->robust, e->n) : kNone);
    cells.push_back(e ? percent(e->robust_interval.low, e->n) + " … " +
                            percent(e->robust_interval.high, e->n)
                      : kNone);
    if (routed) {
      cells.push_back(share(e ? e->gate_open() : std::nullopt));
      cells.push_back(share(e ? e->gate_blocked() : std::nullopt));
    }
    cells.push_back(count(run.parameters));
    cells.push_back(count(run.macs));
    cells.push_back(duration(run.train_seconds));
    cells.push_back(e ? duration(e->seconds) : kNone);
    table.row(std::move(cells));
  };
  for (const Run& run : runs) {
    if (run.evaluations.empty()) row(run, nullptr);
    for (const Evaluation& e : run.evaluations) row(run, &e);
  }
  return table;
}

std::vector<std::string> headline_notes(const std::vector<Run>& runs) {
  std::vector<std::string> notes;
  std::set<std::string> seen;
  for (const Run& run : runs)
    for (const Evaluation& e : run.evaluations) {
      const JsonView data = JsonView(e.report, e.folder / "report.json").at("data");
      const std::string note =
          text("RA is the accuracy under ", e.protocol, " within ", e.ball(), " on ", e.n, " ",
               data.str_or("split", ""), " images of ", data.str_or("name", "the data"),
               "; an image counts as robust when no attack of the protocol fools the model.");
      if (seen.insert(note).second) notes.push_back(note);
    }
  if (!notes.empty())
    notes.insert(notes.begin(),
                 "SA is the accuracy on unchanged images. Intervals are Wilson's at 95 %.");
  if (is_routed(runs))
    notes.push_back(
        "A routed model is attacked twice: with the gradient through the gate (open) and with the "
        "gate's gradient blocked; RA counts the worse of the two for each image.");
  notes.push_back("MACs are the multiply-adds that one image executes, router included.");
  return notes;
}

Json headline_json(const std::vector<Run>& runs) {
  Json list = Json::array();
  const auto item = [&](const Run& run, const Evaluation* e) {
    Json alone = Json::object();
    if (e)
      for (const auto& [name, accuracy] : e->alone) alone[name] = accuracy;
    const auto interval = [&](const train::Interval& i) { return Json{i.low, i.high}; };
    const auto course = validation_course(run);
    list.push_back(
        {{"name", run.name},
         {"dir", run.folder.string()},
         {"method", run.method},
         {"model", run.model},
         {"protocol", e ? Json(e->protocol) : Json(nullptr)},
         {"room", e && !e->room.empty() ? Json(e->room) : Json(nullptr)},
         {"norm", e ? Json(e->norm) : Json(nullptr)},
         {"eps", e ? number(e->eps) : Json(nullptr)},
         {"checkpoint", e ? Json(checkpoint_of(*e)) : Json(nullptr)},
         {"n", e ? Json(e->n) : Json(nullptr)},
         {"sa", e ? Json(e->clean) : Json(nullptr)},
         {"sa_ci", e ? interval(e->clean_interval) : Json(nullptr)},
         {"ra", e ? Json(e->robust) : Json(nullptr)},
         {"ra_ci", e ? interval(e->robust_interval) : Json(nullptr)},
         {"alone", alone},
         {"parameters", number(run.parameters)},
         {"macs", number(run.macs)},
         {"epochs", run.metrics.rows.size()},
         {"unfinished", run.unfinished.empty() ? Json(nullptr) : Json(run.unfinished)},
         {"train_seconds", number(run.train_seconds)},
         {"validation_best", course ? Json(course->best) : Json(nullptr)},
         {"validation_best_epoch", course ? Json(course->best_epoch) : Json(nullptr)},
         {"validation_last", course ? Json(course->last) : Json(nullptr)},
         {"eval_seconds", e ? number(e->seconds) : Json(nullptr)},
         {"expert_share_min", e ? number(smallest_share(*e)) : Json(nullptr)},
         {"route_flip_rate", e && e->experts ? number(e->experts->flip_rate) : Json(nullptr)}});
  };
  for (const Run& run : runs) {
    if (run.evaluations.empty()) item(run, nullptr);
    for (const Evaluation& e : run.evaluations) item(run, &e);
  }
  return {{"runs", list}};
}

}  // namespace moat::cli::report
