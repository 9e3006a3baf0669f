#include "cli/report/run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cli/number_format.h"
#include "engine/error.h"
#include "train/run_folder.h"

namespace moat::cli::report {

using engine::require;
using engine::text;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

train::Interval interval(const JsonView& results, const char* key, double value, int64_t n) {
  if (const auto given = results.find("ci95"))
    if (const auto pair = given->find(key)) {
      const auto bounds = pair->items();
      if (bounds.size() != 2) pair->fail("a list of two fractions");
      return {bounds[0].fraction(), bounds[1].fraction()};
    }
  return train::wilson_interval(std::llround(value * static_cast<double>(n)), n);
}

ExpertUse::Counts counts(const JsonView& list, int64_t experts) {
  ExpertUse::Counts out;
  for (const JsonView& item : list.items()) out.push_back(item.count());
  if (static_cast<int64_t>(out.size()) != experts)
    list.fail(text("a list of ", experts, " counts, one per expert"));
  return out;
}

std::vector<ExpertUse::Counts> count_rows(const JsonView& moe, const char* key, size_t classes,
                                          int64_t experts) {
  std::vector<ExpertUse::Counts> out;
  const auto list = moe.find(key);
  if (!list) return out;
  for (const JsonView& row : list->items()) out.push_back(counts(row, experts));
  if (classes > 0 && out.size() != classes)
    list->fail(text("a list of ", classes, " rows, one per class"));
  return out;
}

ExpertUse read_experts(const JsonView& moe, size_t classes) {
  const int64_t experts = moe.at("experts").count();
  ExpertUse use{
      .experts = experts,
      .clean = counts(moe.at("usage_clean"), experts),
      .adversarial = counts(moe.at("usage_adversarial"), experts),
      .class_clean = count_rows(moe, "class_by_expert_clean", classes, experts),
      .class_adversarial = count_rows(moe, "class_by_expert_adversarial", classes, experts),
      .flip_rate = {}};
  if (const auto rate = moe.find("route_flip_rate")) use.flip_rate = rate->fraction();
  return use;
}

// Groups are left out: an image that is evaluated shares room with no other one.
std::string room_of(const JsonView& moe) {
  if (const auto capacity = moe.find("capacity"))
    return capacity->number() == 0 ? "room for all"
                                   : text("capacity ", capacity->number(), ", ",
                                          moe.str_or("priority", "unknown priority"));
  std::string rooms;  // of the parts of a dual model
  for (const char* part : {"standard", "robust"})
    if (const auto half = moe.find(part))
      if (const std::string room = room_of(*half); !room.empty() && room != rooms)
        rooms += (rooms.empty() ? "" : " and ") + room;
  return rooms;
}

std::vector<SampleRow> read_samples(const std::filesystem::path& file) {
  const Csv csv = read_csv(file);
  std::vector<SampleRow> out;
  if (csv.rows.empty()) return out;
  for (const char* name : {"index", "label", "clean_pred", "adv_pred"})
    require(csv.column(name) >= 0,
            [&] { return text(file.string(), ": column ", name, " is missing"); });
  const auto whole = [&](const char* name) {
    std::vector<int64_t> values;
    for (double v : csv.numbers(name)) {
      require(!(std::fabs(v) > 1e15), [&] { return text(file.string(), ": ", name, " ", v); });
      values.push_back(std::isnan(v) ? -1 : std::llround(v));
    }
    return values;
  };
  const auto index = whole("index"), label = whole("label"), clean = whole("clean_pred"),
             adversarial = whole("adv_pred"), from = whole("route_clean"), to = whole("route_adv");
  const int fooled_by = csv.column("fooled_by");
  for (size_t i = 0; i < csv.rows.size(); ++i)
    out.push_back({index[i], label[i], clean[i], adversarial[i],
                   fooled_by < 0 ? "" : csv.rows[i][static_cast<size_t>(fooled_by)], from[i],
                   to[i]});
  return out;
}

Evaluation read_evaluation(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "report.json";
  Evaluation e{};
  e.folder = folder;
  e.report = read_json(file);
  const JsonView root(e.report, file), results = root.at("results");
  if (root.at("schema").count() != 1) root.at("schema").fail("1, which this moat reads");
  e.protocol = root.at("protocol").at("name").str();
  const auto threat = root.find("threat");
  e.norm = threat ? threat->str_or("norm", "") : "";
  e.eps = threat ? threat->number_or("eps", kNan) : kNan;
  const auto model = root.find("model");
  if (const auto mixture = model ? model->find("moe") : std::nullopt) e.room = room_of(*mixture);
  e.n = root.at("data").at("n").count();
  e.clean = results.at("clean").fraction();
  e.robust = results.at("robust").fraction();
  e.clean_interval = interval(results, "clean", e.clean, e.n);
  e.robust_interval = interval(results, "robust", e.robust, e.n);
  if (const auto alone = results.find("alone"))
    for (const auto& [name, value] : alone->members()) e.alone.emplace_back(name, value.fraction());
  if (const auto after = results.find("after"))
    for (const auto& [name, value] : after->members()) e.after.emplace_back(name, value.fraction());
  if (const auto classes = results.find("per_class"))
    for (const JsonView& c : classes->items()) {
      const int64_t n = c.at("n").count();
      const auto share = [&](const char* key) { return n > 0 ? c.at(key).fraction() : kNan; };
      e.classes.push_back({c.at("class").str(), n, share("clean"), share("robust")});
    }
  if (const auto moe = root.find("moe")) e.experts = read_experts(*moe, e.classes.size());
  const auto cost = root.find("cost");
  e.seconds = cost ? cost->number_or("seconds", kNan) : kNan;
  e.samples = read_samples(folder / "per_sample.csv");
  return e;
}

std::optional<double> with_suffix(const Evaluation& e, std::string_view suffix) {
  std::optional<double> lowest;
  for (const auto& [name, accuracy] : e.alone)
    if (std::string_view(name).ends_with(suffix))
      lowest = std::min(lowest.value_or(accuracy), accuracy);
  return lowest;
}

std::string folder_name(const std::filesystem::path& folder) {
  const auto whole = std::filesystem::absolute(folder).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

}  // namespace

std::string Evaluation::ball() const {
  return norm.empty() || std::isnan(eps) ? "–" : ball_text(norm, eps);
}

std::string Evaluation::title() const { return room.empty() ? protocol : protocol + ", " + room; }

std::optional<double> Evaluation::gate_open() const { return with_suffix(*this, " through"); }
std::optional<double> Evaluation::gate_blocked() const { return with_suffix(*this, " blocked"); }

Run read_run(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  require(std::filesystem::is_directory(folder), [&] {
    return text(folder.string(), ": must be a run folder, ",
                std::filesystem::exists(folder) ? "it is a file" : "it does not exist");
  });
  require(std::filesystem::exists(file), [&] {
    return text(file.string(), ": is missing; a run folder is what `moat train` writes");
  });
  Run run{};
  run.folder = folder;
  run.name = folder_name(folder);
  run.config = read_json(file);
  const JsonView config(run.config, file);
  run.method = config.at("train").at("method").str();
  run.model = config.at("model").at("name").str();
  if (const train::RunFolder files(folder); std::filesystem::exists(files.state()))
    run.unfinished =
        train::unfinished_text(files, train::overlay({}, Json(run.config), file.string()));
  run.parameters = config.number_or("parameters", kNan);
  const auto macs = config.find("macs");
  run.macs = macs ? macs->number_or("executed", kNan) : kNan;

  run.metrics = read_csv(folder / "metrics.csv");
  require(run.metrics.header.empty() || run.metrics.header[0] == "epoch",
          [&] { return text(run.metrics.file.string(), ": the first column must be epoch"); });
  run.train_seconds = kNan;
  for (double s : run.metrics.numbers("seconds"))
    if (!std::isnan(s))
      run.train_seconds = (std::isnan(run.train_seconds) ? 0 : run.train_seconds) + s;

  std::vector<std::filesystem::path> protocols;
  if (std::filesystem::is_directory(folder / "eval"))
    for (const auto& entry : std::filesystem::directory_iterator(folder / "eval"))
      if (std::filesystem::exists(entry.path() / "report.json")) protocols.push_back(entry.path());
  std::sort(protocols.begin(), protocols.end());
  for (const auto& protocol : protocols) run.evaluations.push_back(read_evaluation(protocol));
  run.certificate = read_certificate(train::RunFolder(folder).certificate());
  return run;
}

std::optional<double> smallest_share(const Evaluation& e) {
  if (!e.experts || e.experts->clean.empty()) return std::nullopt;
  const auto& use = e.experts->clean;
  const double total = static_cast<double>(std::accumulate(use.begin(), use.end(), int64_t{0}));
  if (total == 0) return std::nullopt;
  return static_cast<double>(*std::min_element(use.begin(), use.end())) / total;
}

}  // namespace moat::cli::report
