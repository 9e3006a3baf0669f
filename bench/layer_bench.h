#pragma once

// The definition of measure_layers, for the targets that LayerData is made for.

#include "bench/kernel_bench.h"
#include "bench/layer_data_on.h"
#include "bench/layer_row_on.h"
#include "bench/turns.h"

namespace moat::bench {

template <class On>
std::vector<KernelMeasurement> measure_layers(Workbench& bench, On on,
                                              const KernelBenchOptions& options,
                                              const BeforeRow& before_row) {
  const std::vector<LayerPlan> plans = layer_plans(options);
  if (plans.empty()) return {};
  const NormalValues normals = normal_values();
  std::vector<KernelMeasurement> rows;
  for (const LayerPlan& plan : plans)
    for (const Work work : plan.works)
      rows.push_back({.name = row_name(plan, work), .facts = facts_of(plan, work)});
  Turns turns(bench, options, rows, before_row);
  for (int round = 0; round < options.rounds; ++round) {
    std::unique_ptr<LayerData<On>> data;
    const LayerPlan* before = nullptr;
    for (const LayerPlan& plan : plans) {
      if (!before || before->shape.name != plan.shape.name || before->dtype != plan.dtype)
        data = nullptr;
      before = &plan;
      bool is_routed = false;
      for (const Work work : plan.works)
        turns.next([&] {
          if (!data)
            data = std::make_unique<LayerData<On>>(bench, on, plan.shape, plan.dtype, normals);
          if (!is_routed) data->route(plan.load);
          is_routed = true;
          return data->row(work);
        });
    }
  }
  return rows;
}

}  // namespace moat::bench
