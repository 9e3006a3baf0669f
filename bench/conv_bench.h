#pragma once

// Measures the convolutions of conv_shapes() on one target. Included where ConvData is made for it.

#include "bench/conv_data_on.h"
#include "bench/kernel_bench.h"
#include "bench/turns.h"

namespace moat::bench {

// One convolution and what is measured of it.
struct ConvPlan {
  ConvShape shape;
  Dtype dtype;
  struct Part {
    ConvKernel kernel;
    ConvWork work;
  };
  std::vector<Part> parts;
};
std::vector<ConvPlan> conv_plans(const KernelBenchOptions& options);
std::string row_name(const ConvPlan& plan, const ConvPlan::Part& part);
nlohmann::ordered_json facts_of(const ConvPlan& plan, const ConvPlan::Part& part);

// Round by round; a row that cannot run says why.
template <class On>
std::vector<KernelMeasurement> measure_convs(Workbench& bench, On on,
                                             const KernelBenchOptions& options,
                                             const BeforeRow& before_row) {
  const std::vector<ConvPlan> plans = conv_plans(options);
  if (plans.empty()) return {};
  const NormalValues normals = normal_values();
  std::vector<KernelMeasurement> rows;
  for (const ConvPlan& plan : plans)
    for (const ConvPlan::Part& part : plan.parts)
      rows.push_back({.name = row_name(plan, part), .facts = facts_of(plan, part)});
  Turns turns(bench, options, rows, before_row);
  for (int round = 0; round < options.rounds; ++round)
    for (const ConvPlan& plan : plans) {
      std::unique_ptr<ConvData<On>> data;
      for (const ConvPlan::Part& part : plan.parts)
        turns.next([&] {
          if (!data)
            data = std::make_unique<ConvData<On>>(bench, on, plan.shape, plan.dtype, normals);
          return data->row(part.kernel, part.work);
        });
    }
  return rows;
}

}  // namespace moat::bench
