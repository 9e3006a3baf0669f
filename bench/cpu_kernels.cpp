#include "bench/conv_bench.h"
#include "bench/layer_bench.h"
#include "engine/memory.h"
#include "tests/op_case.h"

namespace moat::bench {

namespace {

using tests::OpCase;

// Every op by its families, so that one family's inputs are in memory at a time.
constexpr auto kFamilies = {
    tests::elementwise_cases,  tests::shape_cases, tests::reduce_cases,    tests::linalg_cases,
    tests::vision_cases,       tests::norm_cases,  tests::attention_cases, tests::loss_cases,
    tests::grouped_conv_cases, tests::moe_cases,   tests::routing_cases,   tests::ball_cases};

std::string name_of(const OpCase& op_case) { return "op " + op_case.name + " float32"; }

void measure(const OpCase& op_case, CpuWorkbench& bench, const Budget& budget,
             KernelMeasurement& row) {
  engine::Tensors inputs;
  for (const engine::Tensor& x : op_case.inputs)
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

std::vector<KernelMeasurement> measure_cpu_kernels(const KernelBenchOptions& options,
                                                   const BeforeRow& before_row) {
  CpuWorkbench bench;
  std::vector<KernelMeasurement> rows = measure_convs(bench, bench.target(), options, before_row),
                                 layers =
                                     measure_layers(bench, bench.target(), options, before_row);
  std::move(layers.begin(), layers.end(), std::back_inserter(rows));
  if (options.only && !rows.empty()) return rows;
  auto done = static_cast<int64_t>(rows.size()) * options.rounds;
  const auto is_stopped = [&] { return options.stop_requested && options.stop_requested(); };
  for (const auto family : kFamilies) {
    if (is_stopped()) break;
    std::vector<OpCase> cases = family(tests::Scale::bench);
    std::erase_if(cases,
                  [&](const OpCase& op_case) { return !is_selected(name_of(op_case), options); });
    const int64_t total = done + static_cast<int64_t>(cases.size()) * options.rounds;
    for (const OpCase& op_case : cases) {
      KernelMeasurement row{.name = name_of(op_case),
                            .facts = {{"kernel", "op"}, {"shape", op_case.name}}};
      for (int round = 0; round < options.rounds && !is_stopped(); ++round, ++done) {
        before_row(row.name, done, total);
        measure(op_case, bench, options.budget, row);
      }
      rows.push_back(row);
    }
    engine::release_cached_memory();
  }
  return rows;
}

}  // namespace moat::bench
