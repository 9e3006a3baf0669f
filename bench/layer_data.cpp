#include "bench/layer_data.h"

#include <cmath>
#include <random>

namespace moat::bench {

namespace {

constexpr size_t kDrawn = 1'048'573;  // a prime

std::vector<float> gumbel_values() {
  std::mt19937 engine(2);
  std::extreme_value_distribution<float> gumbel;
  std::vector<float> values(kDrawn);
  for (float& x : values) x = gumbel(engine);
  return values;
}

}  // namespace

const char* name_of(Work work) {
  switch (work) {
    case Work::gate:
      return "topk_gate";
    case Work::routing:
      return "routing_index";
    case Work::dispatch:
      return "dispatch_rows";
    case Work::combine:
      return "combine_rows";
    case Work::route:
      return "route";
    case Work::route_on_load:
      return "route_on_load";
    case Work::product_in:
      return "grouped_gemm_in";
    case Work::product_out:
      return "grouped_gemm_out";
    case Work::input_grad:
      return "grouped_gemm_input_grad";
    case Work::weight_grad:
      return "grouped_gemm_weight_grad";
    case Work::forward:
      return "layer_forward";
    case Work::backward:
      return "layer_backward";
    case Work::input_backward:
      return "layer_input_backward";
  }
  return "";
}

const char* name_of(Load load) { return load == Load::balanced ? "balanced" : "zipf"; }

std::vector<Work> works_of(Parts parts, Load load) {
  using enum Work;
  switch (parts) {
    case Parts::gate:
      return load == Load::balanced ? std::vector{gate} : std::vector<Work>{};
    case Parts::rows:
      return {routing, dispatch, combine};
    case Parts::products:
      return {product_in, product_out, input_grad, weight_grad};
    case Parts::layer:
      break;
  }
  std::vector<Work> all{routing,       dispatch,   combine,     route,
                        route_on_load, product_in, product_out, input_grad,
                        weight_grad,   forward,    backward,    input_backward};
  if (load == Load::balanced) all.insert(all.begin(), gate);
  return all;
}

std::vector<float> logits_of(const LayerShape& shape, Load load) {
  static const std::vector<float> noise = gumbel_values();
  const auto experts = static_cast<size_t>(shape.experts);
  std::vector<float> bias(experts, 0);
  for (size_t e = 0; load == Load::zipf && e < experts; ++e)
    bias[e] = -std::log(static_cast<float>(e + 1));
  std::vector<float> logits(static_cast<size_t>(shape.tokens) * experts);
  size_t drawn = 0, expert = 0;
  for (float& logit : logits) {
    logit = noise[drawn] + bias[expert];
    if (++drawn == kDrawn) drawn = 0;
    if (++expert == experts) expert = 0;
  }
  return logits;
}

}  // namespace moat::bench
