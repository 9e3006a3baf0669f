#include "bench/kernel_bench.h"

#include <cmath>

#include "engine/tensor.h"

namespace moat::bench {

using nlohmann::ordered_json;

namespace {

const char* name_of(ExpertActivation activation) {
  switch (activation) {
    case ExpertActivation::none:
      return "none";
    case ExpertActivation::relu:
      return "relu";
    case ExpertActivation::gelu:
      return "gelu";
    case ExpertActivation::gelu_tanh:
      return "gelu_tanh";
    case ExpertActivation::swiglu:
      return "swiglu";
  }
  return "";
}

}  // namespace

bool is_selected(const std::string& name, const KernelBenchOptions& options) {
  return !options.only || std::regex_search(name, *options.only);
}

std::string row_name(const LayerPlan& plan, Work work) {
  std::string name = std::string(name_of(work)) + " " + plan.shape.name;
  if (plan.shape.parts != Parts::gate) name += std::string(" ") + name_of(plan.load);
  return name + " " + engine::name_of(plan.dtype);
}

std::vector<LayerPlan> layer_plans(const KernelBenchOptions& options) {
  std::vector<LayerPlan> plans;
  for (const LayerShape& shape : layer_shapes())
    for (const Dtype dtype : options.dtypes)
      for (const Load load : {Load::balanced, Load::zipf}) {
        LayerPlan plan{within(shape, options.limits), load, dtype, {}};
        for (const Work work : works_of(shape.parts, load))
          if (is_selected(row_name(plan, work), options)) plan.works.push_back(work);
        if (!plan.works.empty()) plans.push_back(plan);
      }
  return plans;
}

ordered_json facts_of(const LayerPlan& plan, Work work) {
  const LayerShape& s = plan.shape;
  return {{"kernel", name_of(work)},
          {"shape", s.name},
          {"tokens", s.tokens},
          {"width", s.width},
          {"hidden", s.hidden},
          {"experts", s.experts},
          {"k", s.k},
          {"activation", name_of(s.activation)},
          {"biases", s.biases == Biases::present},
          {"routing", name_of(plan.load)},
          {"dtype", engine::name_of(plan.dtype)},
          {"scale", s.scale()}};
}

ordered_json json_of(const KernelMeasurement& m, const Roof& roof) {
  ordered_json row{{"name", m.name}};
  row.update(m.facts);
  if (m.seconds.empty()) {
    row["failure"] = m.failure;
    return row;
  }
  const Quartiles q = quartiles(m.seconds);
  row["microseconds"] = {
      {"low_quartile", 1e6 * q.low}, {"median", 1e6 * q.median}, {"high_quartile", 1e6 * q.high}};
  row["samples"] = m.seconds.size();
  row["bytes"] = m.bytes > 0 ? ordered_json(m.bytes) : ordered_json();
  row["flops"] = m.flops;
  row["gbps"] = m.bytes > 0 ? ordered_json(m.bytes / q.median / 1e9) : ordered_json();
  row["tflops"] = m.flops / q.median / 1e12;
  const double by_bytes = m.bytes / roof.bytes_per_second,
               by_flops = m.flops / roof.flops_per_second;
  const bool is_copy = !(by_flops > by_bytes);
  const double least = is_copy ? by_bytes : by_flops;
  row["roof"] = is_copy ? "copy" : "products";
  row["part_of_roof"] = least > 0 ? ordered_json(least / q.median) : ordered_json();
  if (!m.clocks.empty()) row["clocks"] = m.clocks;
  return row;
}

}  // namespace moat::bench
