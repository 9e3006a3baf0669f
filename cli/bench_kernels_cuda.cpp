// bench-kernels-cuda [--only REGEX] [--rounds N] [--seconds S] [--limit S] [--out FILE.json]: the
// rows of `moat bench kernels` for convolutions and layers, at full size in bfloat16 on the first
// GPU. A row takes the GPU for --seconds or five calls, whichever is longer; --limit is for all
// rows.

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "bench/conv_bench.h"
#include "bench/cuda/workbench.h"
#include "bench/layer_bench.h"
#include "cli/kernel_table.h"
#include "cli/progress.h"
#include "engine/error.h"
#include "train/machine.h"

namespace moat::cli {

using namespace bench;
using nlohmann::ordered_json;

namespace {

struct Asked {
  KernelBenchOptions options{.budget = {.seconds = 0.1, .least = 5, .most = 100},
                             .dtypes = {Dtype::bf16}};
  std::string file;
};

Asked asked(int argc, char** argv) {
  using Clock = KernelBenchOptions::Clock;
  Asked out;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (name == "--only" && !value.empty())
      out.options.only = std::regex(value, std::regex::extended);
    else if (name == "--rounds" && std::atoi(value.c_str()) > 0)
      out.options.rounds = std::atoi(value.c_str());
    else if (name == "--seconds" && std::atof(value.c_str()) > 0)
      out.options.budget.seconds = std::atof(value.c_str());
    else if (name == "--limit" && std::atof(value.c_str()) > 0)
      out.options.until =
          Clock::now() + std::chrono::duration_cast<Clock::duration>(
                             std::chrono::duration<double>(std::atof(value.c_str())));
    else if (name == "--out" && !value.empty())
      out.file = value;
    else
      throw engine::UsageError(
          "usage: bench-kernels-cuda [--only REGEX] [--rounds N] "
          "[--seconds S] [--limit S] [--out FILE.json]");
  }
  return out;
}

ordered_json measured(const Asked& a) {
  CudaWorkbench bench;
  const Roof roof{bench.copy_bytes_per_second(), bench.product_flops_per_second()};
  Progress::Output output{};
  output.unit = "rows";
  Progress progress(progress_style_of_stderr(), 0, 0, output);
  const BeforeRow before_row = [&](const std::string& name, int64_t done, int64_t total) {
    progress.set_total(total);
    progress.update(done, name);
  };
  auto rows = measure_convs(bench, bench.target(), a.options, before_row);
  const auto layers = measure_layers(bench, bench.target(), a.options, before_row);
  rows.insert(rows.end(), layers.begin(), layers.end());
  progress.clear();
  engine::require(!rows.empty(), "--only: no row's name matches");
  ordered_json all = ordered_json::array();
  for (const KernelMeasurement& row : rows) all.push_back(json_of(row, roof));
  ordered_json machine = train::machine_json();
  machine.update(bench.device());
  return {{"benchmark", "kernels"},
          {"device", "cuda"},
          {"tool", train::tool_json()},
          {"machine", machine},
          {"ceilings",
           {{"copy_gbps", roof.bytes_per_second / 1e9},
            {"products_tflops", roof.flops_per_second / 1e12}}},
          {"rounds", a.options.rounds},
          {"seconds_per_row", a.options.budget.seconds},
          {"rows", all}};
}

void run(int argc, char** argv) {
  const Asked a = asked(argc, argv);
  const std::string reason = why_no_gpu();
  engine::require(reason.empty(), reason);
  const ordered_json document = measured(a);
  if (!a.file.empty()) {
    std::ofstream out(a.file);
    out << document.dump(1) << '\n';
    out.close();
    engine::require(out.good(), "--out: '" + a.file + "' could not be written");
  }
  std::cout << kernel_table(document);
}

}  // namespace

}  // namespace moat::cli

int main(int argc, char** argv) {
  try {
    moat::cli::run(argc, argv);
    return 0;
  } catch (const moat::engine::UsageError& e) {
    std::cerr << e.what() << '\n';
    return 2;
  } catch (const std::exception& e) {
    std::cerr << "bench-kernels-cuda: " << e.what() << '\n';
    return 1;
  }
}
