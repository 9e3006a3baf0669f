#pragma once

// The definition of measure_layers, for the targets that LayerData is made for.

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
  const std::vector<float> normals = normal_values();
  std::vector<KernelMeasurement> rows;
  for (const LayerPlan& plan : plans)
    for (const Work work : plan.works)
      rows.push_back({.name = row_name(plan, work), .facts = facts_of(plan, work)});
  const auto total = static_cast<int64_t>(rows.size()) * options.rounds;
  int64_t done = 0;
  for (int round = 0; round < options.rounds; ++round) {
    auto row = rows.begin();
    for (const LayerPlan& plan : plans) {
      std::unique_ptr<LayerData<On>> data;
      for (const Work work : plan.works) {
        before_row(row->name, done++, total);
        try {
          if (!data)
            data = std::make_unique<LayerData<On>>(bench, on, plan.shape, plan.load, plan.dtype,
                                                   normals);
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
