#include <cmath>
#include <memory>
#include <numeric>

#include "cli/curve_file.h"
#include "cli/evaluation.h"
#include "cli/image_options.h"
#include "cli/number_format.h"
#include "cli/report/svg.h"
#include "cli/table.h"
#include "engine/io/file.h"
#include "engine/names.h"
#include "train/images.h"
#include "train/machine.h"
#include "train/numbers.h"
#include "train/objective.h"
#include "train/run_folder.h"

// moat curve: robust accuracy over the radius, of one model or of several beside each other. An
// image that fell within a ball has fallen within every larger one, and is not attacked again.

namespace moat::cli {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

struct CurveOptions {
  std::vector<std::string> runs;
  std::string eps, norm, protocol = "pgd-50@1", out;
  ImageOptions images;
};

// Ascending and above 0; of the first run's own radius eighths up to twice of it unless given.
std::vector<double> radii_of(const CurveOptions& options, const std::string& norm,
                             const Subject& first) {
  std::vector<double> radii;
  if (!options.eps.empty()) {
    for (double eps : train::parse_numbers(options.eps, "--eps")) {
      train::require_eps(eps, "--eps", norm);
      if (eps > 0) radii.push_back(eps);  // at 0 it is the clean accuracy, which is there anyway
    }
    if (radii.empty()) throw engine::UsageError("--eps must have a radius above 0");
    return radii;
  }
  require_own_radius(first, norm, "--eps");
  for (int k = 1; k <= 16; ++k) radii.push_back(first.config.train.eps * k / 8);
  for (double eps : radii) train::require_eps(eps, "twice the first run's eps", norm);
  return radii;
}

// One model's part of the curve.
class RunCurve {
 public:
  RunCurve(const std::string& name, Subject& subject, const data::ImageSet& set, int batch)
      : name_(name), subject_(subject), set_(set), batch_(batch), standing_(set.labels.size()) {
    std::iota(standing_.begin(), standing_.end(), 0);
  }

  // What the points that are there say of it.
  void restore(const ordered_json& points) {
    for (const ordered_json& point : points)
      if (point.at("run") == name_) {
        clean_ = point.at("clean_correct");
        for (const int32_t id : point.at("fallen").get<std::vector<int32_t>>())
          std::erase_if(standing_, [&](int32_t row) { return id_of(row) == id; });
      }
  }

  ordered_json attack(const attacks::Protocol& protocol, double eps, const fs::path& state,
                      const Globals& globals) {
    std::vector<int32_t> fallen, left;
    if (!standing_.empty()) {
      const data::ImageSet set = data::select(set_, standing_);
      const train::Evaluation e =
          evaluate_watched(subject_.loaded.model, set, protocol, batch_, state,
                           text(name_, ", eps ", brief(eps)), globals);
      fs::remove(state);  // before the next radius's, which is another protocol
      if (clean_ < 0) clean_ = e.clean_correct(set);
      for (size_t i = 0; i < standing_.size(); ++i)
        if (e.samples[i].is_robust(set.labels[i]))
          left.push_back(standing_[i]);
        else
          fallen.push_back(id_of(standing_[i]));
    }
    standing_ = std::move(left);
    ordered_json point{{"run", name_}, {"eps", eps}};
    point.update(accuracies_json(clean_, std::ssize(standing_), set_.size()));
    point["fallen"] = fallen;
    return point;
  }

 private:
  int32_t id_of(int32_t row) const { return set_.ids[static_cast<size_t>(row)]; }

  const std::string& name_;
  Subject& subject_;
  const data::ImageSet& set_;
  int batch_;
  std::vector<int32_t> standing_;  // rows that are right within every radius so far
  int64_t clean_ = -1;             // images that are right; unknown before the first radius
};

std::string chart(const ordered_json& points, const CurveOptions& options,
                  const std::string& title) {
  report::LineChart chart{title, "eps", report::Unit::percent, {}};
  for (const std::string& run : options.runs) {
    const auto index = static_cast<int>(chart.series.size());
    report::Series series{
        run,
        {},
        {},
        index,
        index < report::kSeriesColours ? report::Stroke::solid : report::Stroke::dashed};
    const auto add = [&](double eps, const ordered_json& point, const char* key) {
      series.x.push_back(eps);
      series.y.push_back(point.at(key));
      const ordered_json& ci = point.at("ci95").at(key);
      series.intervals.push_back({ci.at(0), ci.at(1)});
    };
    for (const ordered_json& point : points) {
      if (point.at("run") != run) continue;
      if (series.x.empty()) add(0, point, "clean");
      add(point.at("eps"), point, "robust");
    }
    chart.series.push_back(std::move(series));
  }
  return report::standalone(report::line_chart(chart));
}

std::string table(const ordered_json& points, const CurveOptions& options,
                  const std::vector<double>& radii, int64_t n) {
  std::vector<Column> columns{{text("robust % of ", n, " images")}};
  for (const std::string& run : options.runs) columns.push_back({run, Align::right});
  Table table(columns);
  const size_t runs = options.runs.size();
  std::vector<std::string> clean{"clean"};
  for (size_t r = 0; r < runs; ++r)
    clean.push_back(accuracy_text(points.at(r * radii.size()).at("clean_correct"), n));
  table.row(clean);
  for (size_t k = 0; k < radii.size(); ++k) {
    std::vector<std::string> cells{"eps " + train::print_eps(radii[k])};
    for (size_t r = 0; r < runs; ++r)
      cells.push_back(accuracy_text(points.at(r * radii.size() + k).at("robust_correct"), n));
    table.row(cells);
  }
  return table.str();
}

std::vector<Subject> subjects_of(const CurveOptions& options, const Globals& globals) {
  std::vector<Subject> subjects;
  for (size_t i = 0; i < options.runs.size(); ++i) {
    if (std::count(options.runs.begin(), options.runs.end(), options.runs[i]) > 1)
      throw engine::UsageError("a run must be given once, got '" + options.runs[i] + "' again");
    subjects.push_back(open_subject({options.runs[i]}, globals));
  }
  return subjects;
}

void curve_command(const CurveOptions& options, const Globals& globals) {
  require_fp32(globals, "a protocol is always run");
  std::vector<Subject> subjects = subjects_of(options, globals);
  const std::string norm = options.norm.empty() ? subjects.front().config.train.norm : options.norm;
  const engine::Norm measure = attacks::norm_named(norm, "--norm");
  const std::vector<double> radii = radii_of(options, norm, subjects.front());
  const uint64_t seed = globals.seed.value_or(0);
  const auto protocol_of = [&](const Subject& subject, double eps) {
    return attacks::find_protocol(options.protocol, {measure, eps}, seed,
                                  train::attack_model(subject.loaded.model));
  };
  std::vector<data::ImageSet> sets;
  ordered_json images;  // of the first set, whose hash costs a pass over it
  ordered_json models = ordered_json::array();
  for (Subject& subject : subjects) {
    const train::Config config = set_up(subject, options.images, globals);
    sets.push_back(load_for(subject.loaded, config, options.images));
    const ordered_json own = train::images_json(sets.back());
    if (images.is_null()) images = own;
    require(own["sha256"] == images["sha256"], [&] {
      return text("all runs must be attacked on the same images: those of '", subject.file.string(),
                  "' are others than those of '", subjects.front().file.string(),
                  "'; choose --data and --root, or a curve for each");
    });
    models.push_back({{"file", subject.file.string()},
                      {"sha256", subject.sha256},
                      {"arch", subject.loaded.model.settings().name},
                      {"protocol", attacks::constants_of(protocol_of(subject, radii.back()))}});
  }
  const data::ImageSet& set = sets.front();
  const fs::path folder = options.out;
  const train::FolderLock lock(folder);
  CurveFile curve(folder / "curve.json",
                  {{"schema", 1},
                   {"tool", train::tool_json()},
                   {"machine", train::machine_json(subjects.front().loaded.model.device())},
                   {"runs", options.runs},
                   {"models", models},
                   {"protocol", options.protocol},
                   {"seed", seed},
                   {"norm", norm},
                   {"eps", radii},
                   {"data", images}});
  for (size_t r = 0; r < subjects.size(); ++r) {
    RunCurve run(options.runs[r], subjects[r], sets[r], options.images.batch);
    run.restore(curve.points());
    for (size_t k = 0; k < radii.size(); ++k)
      if (curve.points().size() <= r * radii.size() + k)
        curve.add(run.attack(protocol_of(subjects[r], radii[k]), radii[k], curve.state(), globals));
  }
  const std::string drawn = chart(curve.points(), options,
                                  text("Robust accuracy, ", options.protocol, ", ",
                                       norm == "l2" ? "L2" : "L∞", ", ", set.size(), " images"));
  engine::write_file(folder / "curve.svg", [&](std::ostream& out) { out << drawn; });
  curve.finish();
  print(globals, curve.document(),
        text(table(curve.points(), options, radii, set.size()), "curve: ", options.out, "\n"));
}

}  // namespace

void add_curve(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<CurveOptions>();
  CLI::App& command =
      add_command(app, globals,
                  {"curve", "robust accuracy over the radius, of runs beside each other",
                   "moat curve runs/vit runs/v-moe --eps 0.5/255:4/255:0.5/255 --out curve"},
                  [o, &globals] { curve_command(*o, globals); });
  command.add_option("runs", o->runs, "run folders or checkpoints")->required();
  command.add_option("--eps", o->eps,
                     "radii, ascending: a list or from:to:step; eighths of the first run's own up "
                     "to twice of it unless given");
  command.add_option("--norm", o->norm,
                     "linf or l2; that of the first run's training unless given");
  command.add_option("--protocol", o->protocol, engine::listed(attacks::protocol_names()));
  add_image_options(command, o->images);
  command.add_option("--out", o->out, "folder of curve.json and curve.svg")->required();
}

}  // namespace moat::cli
