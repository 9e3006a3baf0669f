#include "bench/conv_bench.h"
#include "bench/layer_bench.h"
#include "engine/memory.h"
#include "tests/op_case.h"

namespace moat::bench {

namespace {

using tests::OpCase;

std::string name_of(const OpCase& op_case) { return "op " + op_case.name + " float32"; }

std::vector<OpCase> selected_ops(const KernelBenchOptions& options) {
  std::vector<OpCase> cases = tests::all_cases(tests::Scale::bench);
  std::erase_if(cases,
                [&](const OpCase& op_case) { return !is_selected(name_of(op_case), options); });
  return cases;
}

void measure(const OpCase& op_case, CpuWorkbench& bench, const Budget& budget,
             KernelMeasurement& row) {
  engine::Tensors inputs;
  for (const engine::Tensor& x : op_case.inputs())
    inputs.push_back(x.defined() && engine::is_floating(x.dtype()) ? x.to(Dtype::f32) : x);
  row.bytes = op_case.bytes;
  row.flops = op_case.flops;
  const std::vector<double> seconds = bench.seconds(
      [&] {
        op_case.op(inputs);
        return kernels::Status::ok;
      },
      budget);
  row.seconds.insert(row.seconds.end(), seconds.begin(), seconds.end());
}

}  // namespace

KernelBenchOptions cpu_options() {
  return {.limits = kCpuLimits, .dtypes = {Dtype::f32, Dtype::bf16}};
}

std::vector<std::string> cpu_row_names(const KernelBenchOptions& options) {
  std::vector<std::string> names;
  for (const ConvPlan& plan : conv_plans(options))
    for (const ConvPlan::Part& part : plan.parts) names.push_back(row_name(plan, part));
  for (const LayerPlan& plan : layer_plans(options))
    for (const Work work : plan.works) names.push_back(row_name(plan, work));
  for (const OpCase& op_case : selected_ops(options)) names.push_back(name_of(op_case));
  return names;
}

std::vector<KernelMeasurement> measure_cpu_kernels(const KernelBenchOptions& options,
                                                   const BeforeRow& before_row) {
  CpuWorkbench bench;
  std::vector<KernelMeasurement> rows = measure_convs(bench, bench.target(), options, before_row),
                                 layers =
                                     measure_layers(bench, bench.target(), options, before_row);
  std::move(layers.begin(), layers.end(), std::back_inserter(rows));
  const std::vector<OpCase> ops = selected_ops(options);
  auto done = std::ssize(rows) * options.rounds;
  const int64_t total = done + std::ssize(ops) * options.rounds;
  const auto is_stopped = [&] { return options.stop_requested && options.stop_requested(); };
  for (const OpCase& op_case : ops) {
    KernelMeasurement row{.name = name_of(op_case),
                          .facts = {{"kernel", "op"}, {"shape", op_case.name}}};
    for (int round = 0; round < options.rounds && !is_stopped(); ++round, ++done) {
      before_row(row.name, done, total);
      measure(op_case, bench, options.budget, row);
    }
    rows.push_back(row);
    engine::release_cached_memory();
  }
  return rows;
}

}  // namespace moat::bench
