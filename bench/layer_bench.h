#pragma once

// The definition of measure_layers, for the targets that LayerData is made for.

#include <chrono>
#include <exception>

#include "bench/kernel_bench.h"
#include "bench/layer_data_on.h"
#include "bench/layer_row_on.h"

namespace moat::bench {

template <class On>
std::vector<KernelMeasurement> measure_layers(Workbench& bench, On on,
                                              const KernelBenchOptions& options,
                                              const BeforeRow& before_row) {
  const std::vector<LayerPlan> plans = layer_plans(options);
  const NormalValues normals = normal_values();
  std::vector<KernelMeasurement> rows;
  for (const LayerPlan& plan : plans)
    for (const Work work : plan.works)
      rows.push_back({.name = row_name(plan, work), .facts = facts_of(plan, work)});
  const auto total = static_cast<int64_t>(rows.size()) * options.rounds;
  int64_t done = 0;
  using Clock = std::chrono::steady_clock;
  const auto from = Clock::now();
  const auto is_late = [&] {
    return std::chrono::duration<double>(Clock::now() - from).count() > options.limit;
  };
  for (int round = 0; round < options.rounds; ++round) {
    auto row = rows.begin();
    std::unique_ptr<LayerData<On>> data;
    const LayerPlan* before = nullptr;
    for (const LayerPlan& plan : plans) {
      if (!before || before->shape.name != plan.shape.name || before->dtype != plan.dtype)
        data = nullptr;
      before = &plan;
      bool is_routed = false;
      for (const Work work : plan.works) {
        before_row(row->name, done++, total);
        try {
          engine::require(!is_late(), "no time left");
          if (!data)
            data = std::make_unique<LayerData<On>>(bench, on, plan.shape, plan.dtype, normals);
          if (!is_routed) data->route(plan.load);
          is_routed = true;
          const Row ready = data->row(work);
          row->bytes = ready.bytes;
          row->flops = ready.flops;
          const std::vector<double> seconds = bench.seconds(ready.run, options.budget);
          row->seconds.insert(row->seconds.end(), seconds.begin(), seconds.end());
          row->clocks = bench.clocks();
        } catch (const std::exception& e) {
          row->failure = e.what();
        }
        ++row;
      }
    }
  }
  return rows;
}

}  // namespace moat::bench
