#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/report/certificate.h"
#include "cli/report/claims.h"
#include "cli/report/comparison.h"
#include "cli/report/differences.h"
#include "cli/report/headline.h"
#include "cli/report/page.h"
#include "cli/report/svg.h"
#include "engine/error.h"
#include "engine/io/file.h"

namespace moat::cli {

namespace {

struct ReportOptions {
  std::vector<std::string> runs;
  std::string out, charts;
};

// Of two folders with one name the paths are the names; one that is given twice is refused.
std::vector<report::Run> read_runs(const std::vector<std::string>& folders) {
  std::vector<report::Run> runs;
  for (const std::string& folder : folders) runs.push_back(report::read_run(folder));
  std::map<std::string, int> count;
  for (const report::Run& run : runs) ++count[run.name];
  for (size_t i = 0; i < runs.size(); ++i) {
    for (size_t k = 0; k < i; ++k)
      if (std::filesystem::equivalent(folders[i], folders[k]))
        throw engine::UsageError("a run must be given once, got '" + folders[i] + "' twice");
    if (count[runs[i].name] > 1) runs[i].name = runs[i].folder.lexically_normal().string();
  }
  return runs;
}

// A page is written anew at every call, and nothing but such a page is written over.
std::string page_file(const ReportOptions& options) {
  if (options.out.empty())
    return options.runs.size() == 1 ? options.runs[0] + "/report.html" : "report.html";
  if (!options.out.ends_with(".html"))
    throw engine::UsageError("--out must be the name of a page, which ends in .html, got '" +
                             options.out + "'");
  engine::require(!std::filesystem::exists(options.out) ||
                      engine::read_file(options.out).find(report::kHeading) != std::string::npos,
                  [&] {
                    return engine::text("'", options.out, "' is no page of `moat report` and not ",
                                        "overwritten; choose another --out");
                  });
  return options.out;
}

void report_command(const ReportOptions& options, const Globals& globals) {
  const std::string out = page_file(options);
  const std::vector<report::Run> runs = read_runs(options.runs);
  const std::string page = report::page(runs);
  engine::write_file(out, [&](std::ostream& stream) { stream << page; });
  std::string people = report::headline_table(runs).str() + "\n";
  for (const std::string& note : report::headline_notes(runs)) people += note + "\n";
  nlohmann::ordered_json document = report::headline_json(runs);
  const auto groups = report::same_runs(runs);
  const auto claims = report::claims_about(groups);
  document["side_by_side"] = report::side_by_side_json(groups);
  document["side_by_side_notes"] = report::side_by_side_notes(groups);
  document["claims"] = report::claims_json(claims);
  if (runs.size() > 1) {
    people += "\n" + report::side_by_side_table(groups).str();
    for (const std::string& note : report::side_by_side_notes(groups)) people += note + "\n";
  }
  const auto between = report::differences_between(groups);
  document["differences_between_runs"] = report::run_differences_json(between);
  if (!between.empty())
    people +=
        "\n" + report::run_differences_table(between).str() + report::kRunDifferencesNote + "\n";
  if (!claims.empty()) people += "\n" + report::claims_table(claims).str();
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto found = report::differences_of(runs[i]);
    document["differences"][runs[i].name] = report::differences_json(found);
    if (!found.empty())
      people += "\n" + runs[i].name + "\n" + report::differences_table(found).str();
  }
  for (const report::Run& run : runs)
    if (run.certificate) {
      document["certificates"][run.name] = run.certificate->document;
      people += "\n" + run.name + ", proven\n" + report::certified_table(*run.certificate).str();
    }
  document["page"] = out;
  people += "report: " + out + "\n";
  if (!options.charts.empty())
    for (const report::NamedChart& chart : report::comparison_charts(runs)) {
      const std::string file = options.charts + "/" + chart.name + ".svg";
      engine::make_folder(options.charts);
      engine::write_file(file,
                         [&](std::ostream& stream) { stream << report::standalone(chart.svg); });
      document["charts"].push_back(file);
      people += "chart: " + file + "\n";
    }
  print(globals, document, people);
}

}  // namespace

void add_report(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<ReportOptions>();
  CLI::App& command = add_command(app, globals,
                                  {"report", "a table, and one self-contained HTML page, of runs",
                                   "moat report runs/dense runs/moe --out report.html"},
                                  [o, &globals] { report_command(*o, globals); });
  command.add_option("runs", o->runs, "run folders")->required();
  command.add_option("--out", o->out, "the page; RUN/report.html, or report.html for several runs");
  command.add_option("--charts", o->charts, "folder for the charts of all runs as SVG files");
}

}  // namespace moat::cli
