#include "cli/bench_data.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/data_bench.h"
#include "cli/number_format.h"
#include "cli/table.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "train/machine.h"

namespace moat::cli {

using nlohmann::ordered_json;

namespace {

namespace fs = std::filesystem;

// A folder for the benchmark's files, gone with it.
class Scratch {
 public:
  explicit Scratch(const std::string& below) {
    std::string name = (fs::path(below) / "moat-bench-XXXXXX").string();
    engine::require(::mkdtemp(name.data()) != nullptr,
                    "--folder must be a folder that can be written to, got '" + below + "'");
    path_ = name;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Of sorted values.
double quantile(const std::vector<double>& values, double part) {
  return values[static_cast<size_t>(std::lround(part * static_cast<double>(values.size() - 1)))];
}

ordered_json json_of(const bench::DataRow& row) {
  std::vector<double> ours = row.ours, yardstick = row.yardstick, ratios;
  for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(yardstick[i] / ours[i]);
  for (auto* values : {&ours, &yardstick, &ratios}) std::sort(values->begin(), values->end());
  const auto images = static_cast<double>(row.images);
  return {{"name", row.name},
          {"images", row.images},
          {"bytes", row.bytes},
          {"images_per_second", images / quantile(ours, 0.5)},
          {"yardstick", row.yardstick_name},
          {"yardstick_images_per_second", images / quantile(yardstick, 0.5)},
          {"ratio", quantile(ratios, 0.5)},
          {"ratio_lowest", ratios.front()},
          {"ratio_highest", ratios.back()},
          {"cpu_seconds", row.ours},
          {"yardstick_cpu_seconds", row.yardstick}};
}

void bench_data(const Globals& globals, const bench::DataBenchOptions& options) {
  if (options.images < 1 || options.images > 1'000'000 || options.rounds < 1)
    throw engine::UsageError("--images must be from 1 to 1000000 and --rounds at least 1");
  const Scratch scratch(options.folder);
  bench::DataBenchOptions asked = options;
  asked.folder = scratch.path();
  ordered_json rows = ordered_json::array();
  Table table({{"case"},
               {"images/s, one core", Align::right},
               {"MB/s", Align::right},
               {"yardstick"},
               {"images/s", Align::right},
               {"ratio", Align::right},
               {"of rounds", Align::right}});
  for (const bench::DataRow& row : bench::measure_data(asked)) {
    const ordered_json m = json_of(row);
    const double rate = m["images_per_second"];
    table.row({row.name, count(rate), fixed(rate * double(row.bytes) / double(row.images) / 1e6, 0),
               row.yardstick_name, count(m["yardstick_images_per_second"]), fixed(m["ratio"], 2),
               fixed(m["ratio_lowest"], 2) + " – " + fixed(m["ratio_highest"], 2)});
    rows.push_back(m);
  }
  ordered_json machine = train::machine_json();
  double load[1] = {std::nan("")};
  if (::getloadavg(load, 1) == 1) machine["load_at_end"] = load[0];
  print(globals,
        {{"benchmark", "data"},
         {"tool", train::tool_json()},
         {"machine", machine},
         {"rounds", options.rounds},
         {"rows", rows}},
        table.str());
}

}  // namespace

void add_bench_data(CLI::App& bench, Globals& globals) {
  const auto options = std::make_shared<moat::bench::DataBenchOptions>();
  const auto folder = std::make_shared<std::string>(fs::temp_directory_path().string());
  CLI::App& command = add_command(
      bench, globals,
      {"data", "images from JPEG and from a converted file, beside libjpeg-turbo and memcpy",
       "moat bench data --rounds 20"},
      [options, folder, &globals] {
        options->folder = *folder;
        bench_data(globals, *options);
      });
  command.add_option("--images", options->images, "64x64 images, made on the spot");
  command.add_option("--rounds", options->rounds, "how often both sides have their turn");
  command.add_option("--folder", *folder, "where the files lie meanwhile");
}

}  // namespace moat::cli
