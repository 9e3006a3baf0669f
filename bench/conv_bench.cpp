#include "bench/conv_bench.h"

#include "engine/tensor.h"

namespace moat::bench {

namespace {

const char* name_of(ConvKernel kernel) {
  return kernel == ConvKernel::conv2d ? "conv2d" : "grouped_conv2d";
}

const char* ending_of(ConvWork work) {
  switch (work) {
    case ConvWork::forward:
      return "";
    case ConvWork::input_grad:
      return "_input_grad";
    case ConvWork::bare_input_grad:
      return "_bare_input_grad";
    case ConvWork::weight_grad:
      return "_weight_grad";
  }
  return "";
}

std::string name_of(const ConvPlan::Part& part) {
  return std::string(name_of(part.kernel)) + ending_of(part.work);
}

}  // namespace

std::string row_name(const ConvPlan& plan, const ConvPlan::Part& part) {
  return name_of(part) + " " + plan.shape.name + " " + engine::name_of(plan.dtype);
}

std::vector<ConvPlan> conv_plans(const KernelBenchOptions& options) {
  std::vector<ConvPlan> plans;
  for (const ConvShape& shape : conv_shapes())
    for (const Dtype dtype : options.dtypes) {
      ConvPlan plan{within(shape, options.limits.flops), dtype, {}};
      for (const ConvWork work : {ConvWork::forward, ConvWork::input_grad,
                                  ConvWork::bare_input_grad, ConvWork::weight_grad})
        for (const ConvKernel kernel : {ConvKernel::conv2d, ConvKernel::grouped_conv2d}) {
          if (kernel == ConvKernel::conv2d && shape.experts > 1) continue;
          const ConvPlan::Part part{kernel, work};
          if (is_selected(row_name(plan, part), options)) plan.parts.push_back(part);
        }
      if (!plan.parts.empty()) plans.push_back(plan);
    }
  return plans;
}

nlohmann::ordered_json facts_of(const ConvPlan& plan, const ConvPlan::Part& part) {
  const kernels::Conv2dGeometry& g = plan.shape.geometry;
  return {{"kernel", name_of(part)},
          {"shape", plan.shape.name},
          {"images", plan.shape.images},
          {"experts", plan.shape.experts},
          {"height", g.height},
          {"width", g.width},
          {"c_in", g.c_in},
          {"c_out", g.c_out},
          {"filter", g.r},
          {"stride", g.stride},
          {"dtype", engine::name_of(plan.dtype)},
          {"scale", plan.shape.scale()}};
}

}  // namespace moat::bench
