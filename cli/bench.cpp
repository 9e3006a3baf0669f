#include <cmath>
#include <exception>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>

#include "bench/step_case.h"
#include "cli/bench_data.h"
#include "cli/bench_kernels.h"
#include "cli/ceilings.h"
#include "cli/commands.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "engine/names.h"
#include "train/machine.h"
#include "train/statistics.h"

namespace moat::cli {

using nlohmann::ordered_json;

namespace {

// What products can reach on the device, in the one number format in which that is measured.
struct Ceiling {
  double tflops;
  engine::Precision precision;
};
Ceiling measured_ceiling(engine::Device device) {
  return device.is_cpu() ? Ceiling{measure_ceilings().float32_gflops / 1e3, engine::Precision::fp32}
                         : Ceiling{measure_ceilings(device).bf16_tflops, engine::Precision::bf16};
}

ordered_json json_of(const std::string& name, const bench::CaseMeasurement& m,
                     const bench::CaseOptions& options, const Ceiling& ceiling) {
  const double seconds = train::median(m.seconds), tflops = m.flops / seconds / 1e12;
  return {
      {"name", name},
      {"device", engine::name_of(options.device)},
      {"precision", engine::name_of(options.precision)},
      {"seconds", seconds},
      {"seconds_all", m.seconds},
      {"images", m.images},
      {"images_per_second", double(m.images) / seconds},
      {"tflops", tflops},
      {"ceiling_tflops", ceiling.tflops},
      {"ceiling_precision", engine::name_of(ceiling.precision)},
      {"of_ceiling", options.precision == ceiling.precision ? ordered_json(tflops / ceiling.tflops)
                                                            : ordered_json(nullptr)},
      {"peak_rss_bytes", m.peak_rss_bytes},
      {"peak_gpu_bytes", m.peak_gpu_bytes},
      {"launches", m.launches},
      {"tool", train::tool_json()},
      {"machine", train::machine_json(options.device)}};
}

// The row of a case, or {name, failure}: those after it are measured all the same.
ordered_json row_of(const bench::Case& subject, const bench::CaseOptions& options,
                    const Ceiling& ceiling) {
  std::string failure;
  try {
    return json_of(subject.name, bench::measure(subject, options), options, ceiling);
  } catch (const std::bad_alloc&) {
    failure = "out of memory; a smaller batch needs less";
  } catch (const std::exception& error) {
    failure = error.what();
  }
  return {{"name", subject.name}, {"failure", failure}};
}

void bench_cases(const std::vector<bench::Case>& cases, const std::string& only,
                 const bench::CaseOptions& options, const Globals& globals) {
  if (options.repeats < 1 || options.attack_steps < 1 || options.batch < 1)
    throw engine::UsageError("--repeats, --attack-steps and --batch must be at least 1");
  std::vector<const bench::Case*> chosen;
  if (only.empty())
    for (const bench::Case& known : cases) chosen.push_back(&known);
  else
    chosen.push_back(&engine::find_named("--case", only, cases,
                                         [](const bench::Case& known) { return known.name; }));
  const Ceiling ceiling = measured_ceiling(options.device);
  ordered_json all = ordered_json::array();
  Table table({{"case"},
               {"seconds", Align::right},
               {"images/s", Align::right},
               {"TFLOP/s", Align::right},
               {"of ceiling", Align::right},
               {"peak memory, MiB", Align::right},
               {"launches", Align::right}});
  const char* memory = options.device.is_cpu() ? "peak_rss_bytes" : "peak_gpu_bytes";
  std::vector<std::string> failures;
  for (const bench::Case* subject : chosen) {
    const ordered_json m =
        only.empty() ? row_of(*subject, options, ceiling)
                     : json_of(subject->name, bench::measure(*subject, options), options, ceiling);
    all.push_back(m);
    if (m.contains("failure")) {
      failures.push_back(subject->name + ": " + m["failure"].get<std::string>());
      table.row({subject->name, "failed", "", "", "", "", ""});
      continue;
    }
    const ordered_json& share = m["of_ceiling"];
    table.row({subject->name, brief(m["seconds"].get<double>()),
               engine::text(std::lround(m["images_per_second"].get<double>())),
               brief(m["tflops"].get<double>()),
               share.is_null() ? "–" : fixed(1e2 * share.get<double>(), 0) + " %",
               engine::text(m[memory].get<int64_t>() >> 20),
               engine::text(m["launches"].get<int64_t>())});
  }
  print(globals, only.empty() ? ordered_json{{"cases", all}} : all[0], table.str());
  engine::require(failures.empty(), [&] {
    return engine::text("every case must run; ", failures.size(), " of ", chosen.size(),
                        " failed, the first, ", failures[0]);
  });
}

void add_cases(CLI::App& command, Globals& globals, const CommandText& text,
               const std::vector<bench::Case>& (*cases)()) {
  const auto options = std::make_shared<bench::CaseOptions>();
  const auto name = std::make_shared<std::string>();
  CLI::App& added = add_command(command, globals, text, [options, name, cases, &globals] {
    options->seed = globals.seed.value_or(0);
    options->device = engine::parse_device(globals.device.value_or("cpu"));
    options->precision = engine::parse_precision(globals.precision.value_or("fp32"));
    bench_cases(cases(), *name, *options, globals);
  });
  added.add_option("--case", *name, "one case; all unless given");
  added.add_option("--batch", options->batch, "images of a step");
  added.add_option("--repeats", options->repeats, "measured runs, after those that warm up");
  added.add_option("--attack-steps", options->attack_steps, "steps of every attack");
}

}  // namespace

void add_bench(CLI::App& app, Globals& globals) {
  CLI::App& command =
      add_group(app, "bench", "how long things take: kernels, training steps, attacks, data");
  add_bench_kernels(command, globals);
  add_bench_data(command, globals);
  add_cases(command, globals,
            {"train", "whole training steps",
             "moat bench train --case resnet18-at-step --batch 512 --device cuda --precision bf16"},
            bench::train_cases);
  add_cases(command, globals,
            {"attack", "attacks, and the gradients that they are made of",
             "moat bench attack --case resnet18-pgd --device cpu"},
            bench::attack_cases);
}

}  // namespace moat::cli
