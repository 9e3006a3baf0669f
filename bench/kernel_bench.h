#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "bench/layer_data.h"

namespace moat::bench {

struct KernelBenchOptions {
  std::optional<std::regex> only = {};  // rows whose name it finds
  int rounds = 1;                       // how often every row has its turn
  Budget budget = {};
  using Clock = std::chrono::steady_clock;
  Clock::time_point until = Clock::time_point::max();  // rows that have not begun by then say so
  std::function<bool()> stop_requested = {};  // rows that have not begun then get no seconds
  SizeLimits limits = {};
  std::vector<Dtype> dtypes = {Dtype::f32};
};

// What this machine reaches, the roof over every row; NaN: not measured.
struct Roof {
  double bytes_per_second;  // of a large copy, read and written
  double flops_per_second;  // of products
};

struct KernelMeasurement {
  std::string name;              // "layer_forward vit-s-8 zipf float32", "op matmul 5x7x3"
  nlohmann::ordered_json facts;  // what tells the row from others
  double bytes = 0, flops = 0;   // 0: not stated
  std::vector<double> seconds = {};
  nlohmann::ordered_json clocks = {};  // right after the row, where the machine tells
  std::string failure = {};            // why there are no seconds
};

bool is_selected(const std::string& row_name, const KernelBenchOptions& options);

// The row as it stands in a file: microseconds by quartiles, GB/s, TFLOP/s, part of the roof.
nlohmann::ordered_json json_of(const KernelMeasurement& m, const Roof& roof);

// One layer and what is measured of it.
struct LayerPlan {
  LayerShape shape;
  Load load;
  Dtype dtype;
  std::vector<Work> works;
};
std::vector<LayerPlan> layer_plans(const KernelBenchOptions& options);
std::string row_name(const LayerPlan& plan, Work work);
nlohmann::ordered_json facts_of(const LayerPlan& plan, Work work);

// Told before every row: its name, and how many of how many are done. The total may grow: it is of
// one kind of rows after the other.
using BeforeRow = std::function<void(const std::string& name, int64_t done, int64_t total)>;

// Measures the layers' kernels on one target, round by round. A row that cannot run says why. In
// layer_bench.h.
template <class On>
std::vector<KernelMeasurement> measure_layers(Workbench& bench, On on,
                                              const KernelBenchOptions& options,
                                              const BeforeRow& before_row);

// Shapes scaled down, bfloat16 where this CPU has it.
KernelBenchOptions cpu_options();

// On this CPU: convolutions, the layers' kernels and, after them, every op of the engine at the
// size that its test case names for this.
std::vector<KernelMeasurement> measure_cpu_kernels(const KernelBenchOptions& options,
                                                   const BeforeRow& before_row);
// The rows that it would measure, in no time.
std::vector<std::string> cpu_row_names(const KernelBenchOptions& options);

}  // namespace moat::bench
