#include "cli/bench_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/kernel_bench.h"
#include "cli/ceilings.h"
#include "cli/interrupt.h"
#include "cli/kernel_table.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "engine/io/file.h"
#include "engine/names.h"
#include "kernels/library/libraries.h"
#include "train/machine.h"

namespace moat::cli {

using nlohmann::ordered_json;

namespace {

struct Asked {
  std::string only, file;
  int rounds = 1;
  double seconds = bench::Budget{}.seconds;
};

ordered_json document_of(const std::vector<bench::KernelMeasurement>& rows,
                         const Ceilings& ceilings, const Asked& asked) {
  ordered_json machine = train::machine_json();
  machine["cores"] = engine::cores();
  machine["instructions"] = kernels::onednn_isa();
  double load[1] = {std::nan("")};
  if (::getloadavg(load, 1) == 1) machine["load_at_end"] = load[0];
  const bench::Roof roof{1e9 * ceilings.copy_gbps, 1e9 * ceilings.float32_gflops};
  ordered_json all = ordered_json::array();
  for (const bench::KernelMeasurement& row : rows) all.push_back(json_of(row, roof));
  return {{"benchmark", "kernels"},
          {"device", "cpu"},
          {"tool", train::tool_json()},
          {"machine", machine},
          {"ceilings",
           {{"copy_gbps", ceilings.copy_gbps}, {"products_tflops", ceilings.float32_gflops / 1e3}}},
          {"rounds", asked.rounds},
          {"seconds_per_row", asked.seconds},
          {"rows", all}};
}

// Of a benchmark that was stopped the rows that had their turn.
ordered_json measured(const bench::KernelBenchOptions& options, const Asked& asked,
                      const Globals& globals) {
  const Ceilings ceilings = measure_ceilings();
  Progress::Output output{};
  output.unit = "rows";
  Progress progress(progress_style(globals), 0, 0, output);
  std::vector<bench::KernelMeasurement> rows = bench::measure_cpu_kernels(
      options, [&](const std::string& name, int64_t done, int64_t total) {
        progress.set_total(total);
        progress.update(done, name);
      });
  progress.clear();
  std::erase_if(rows, [](const bench::KernelMeasurement& row) {
    return row.seconds.empty() && row.failure.empty();
  });
  return document_of(rows, ceilings, asked);
}

// Where no row is meant, the kernels with a name like it.
void require_rows(bench::KernelBenchOptions options, const std::string& only) {
  if (!bench::cpu_row_names(options).empty()) return;
  options.only.reset();
  std::vector<std::string> kernels;
  for (const std::string& name : bench::cpu_row_names(options)) {
    const size_t from = name.starts_with("op ") ? 3 : 0;
    kernels.push_back(name.substr(from, name.find(' ', from) - from));
  }
  std::ranges::sort(kernels);
  kernels.erase(std::unique(kernels.begin(), kernels.end()), kernels.end());
  throw engine::UsageError(engine::text("--only must find the name of a row, like 'softmax' or ",
                                        "'layer_.*vit-s', got '", only, "'",
                                        engine::suggestion(only, kernels)));
}

void bench_kernels(const Asked& asked, const Globals& globals) {
  if (globals.device && !engine::parse_device(*globals.device).is_cpu())
    throw engine::Error(
        "kernels on a GPU are measured by bench-kernels-cuda, which the preset cuda builds and "
        "scripts/gpu-acceptance runs");
  bench::KernelBenchOptions options = bench::cpu_options();
  try {
    if (!asked.only.empty()) options.only = std::regex(asked.only, std::regex::extended);
  } catch (const std::regex_error&) {
    throw engine::UsageError("--only must be a regular expression, got '" + asked.only + "'");
  }
  if (asked.rounds < 1 || !(asked.seconds > 0))
    throw engine::UsageError("--rounds must be at least 1 and --seconds above 0");
  require_rows(options, asked.only);
  if (!asked.file.empty()) require_new_file(asked.file);
  options.rounds = asked.rounds;
  options.budget.seconds = asked.seconds;
  options.stop_requested = is_interrupted;
  catch_interrupts();
  ordered_json document;
  const auto measure = [&] { document = measured(options, asked, globals); };
  if (asked.file.empty())
    measure();
  else  // which is opened first: what cannot be written is not measured
    engine::write_file(asked.file, [&](std::ostream& out) {
      measure();
      out << document.dump(2) << '\n';
    });
  print(globals, document, kernel_table(document));
  engine::require(!is_interrupted(),
                  [&] { return engine::text("stopped after ", document["rows"].size(), " rows"); });
}

}  // namespace

void add_bench_kernels(CLI::App& bench, Globals& globals) {
  const auto asked = std::make_shared<Asked>();
  CLI::App& command =
      add_command(bench, globals,
                  {"kernels", "single kernels and ops, beside what this machine reaches at most",
                   "moat bench kernels --only 'layer_.*vit-s' --rounds 3"},
                  [asked, &globals] { bench_kernels(*asked, globals); });
  command.add_option("--only", asked->only, "rows whose name this regular expression finds");
  command.add_option("--rounds", asked->rounds, "how often every row has its turn");
  command.add_option("--seconds", asked->seconds, "at most this long for a row and round");
  command.add_option("--out", asked->file, "a file that gets the JSON document as well");
}

}  // namespace moat::cli
