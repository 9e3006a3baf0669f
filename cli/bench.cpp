#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/train_cases.h"
#include "cli/bench_kernels.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "train/machine.h"

namespace moat::cli {

using nlohmann::ordered_json;

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

ordered_json json_of(const bench::TrainMeasurement& m, engine::Device device) {
  const double seconds = median(m.seconds);
  return {{"name", m.name},
          {"device", engine::name_of(device)},
          {"seconds", seconds},
          {"seconds_all", m.seconds},
          {"images", m.images},
          {"images_per_second", double(m.images) / seconds},
          {"peak_rss_bytes", m.peak_rss_bytes},
          {"peak_gpu_bytes", m.peak_gpu_bytes},
          {"launches", m.launches},
          {"precision", m.precision},
          {"tool", train::tool_json()},
          {"machine", train::machine_json(device)}};
}

void bench_train(const std::string& only, const bench::TrainCaseOptions& options,
                 const Globals& globals) {
  if (options.repeats < 1 || options.attack_steps < 1)
    throw engine::UsageError("--repeats and --attack-steps must be at least 1");
  std::vector<std::string> names;
  for (const bench::TrainCase& c : bench::train_cases())
    if (only.empty() && (!options.device.is_cpu() || !c.name.ends_with("bf16")))
      names.push_back(c.name);
  if (!only.empty()) names = {only};
  ordered_json all = ordered_json::array();
  Table table({{"case"},
               {"seconds", Align::right},
               {"images/s", Align::right},
               {"peak memory, MiB", Align::right}});
  for (const std::string& name : names) {
    const ordered_json m = json_of(bench::measure_train_case(name, options), options.device);
    all.push_back(m);
    table.row(
        {name, engine::text(std::round(1e3 * m["seconds"].get<double>()) / 1e3),
         engine::text(std::lround(m["images_per_second"].get<double>())),
         engine::text(
             m[options.device.is_cpu() ? "peak_rss_bytes" : "peak_gpu_bytes"].get<int64_t>() >>
             20)});
  }
  print(globals, only.empty() ? ordered_json{{"cases", all}} : all[0], table.str());
}

}  // namespace

void add_bench(CLI::App& app, Globals& globals) {
  const auto options = std::make_shared<bench::TrainCaseOptions>();
  const auto name = std::make_shared<std::string>();
  CLI::App& command =
      *app.add_subcommand("bench", "how long things take: kernels, whole training steps");
  command.require_subcommand(1);
  add_bench_kernels(command, globals);
  CLI::App& train =
      add_command(command, globals,
                  {"train", "whole training steps",
                   "moat bench train --case resnet18-at-step --repeats 5 --device cpu"},
                  [options, name, &globals] {
                    options->seed = globals.seed.value_or(0);
                    options->device = engine::parse_device(globals.device.value_or("cpu"));
                    bench_train(*name, *options, globals);
                  });
  train.add_option("--case", *name, "one case; all that the device can run unless given");
  train.add_option("--repeats", options->repeats, "measured runs, after one that is not");
  train.add_option("--attack-steps", options->attack_steps, "steps of every attack");
}

}  // namespace moat::cli
