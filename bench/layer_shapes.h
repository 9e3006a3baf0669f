#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/experts/expert_activation.h"

namespace moat::bench {

using kernels::ExpertActivation;

// Which kernels a shape is there for.
enum class Parts { layer, products, gate, rows };
enum class Biases { absent, present };

// A mixture-of-experts layer: every token's k choices pass through activation(x · w_in^T) ·
// w_out^T.
struct LayerShape {
  std::string name;
  Parts parts;
  int64_t tokens, width, hidden;  // hidden: what w_out reads, half of w_in's rows for swiglu
  int experts, k;
  ExpertActivation activation = ExpertActivation::none;
  Biases biases = Biases::absent;
  int64_t tokens_divisor = 1, widths_divisor = 1;  // how much smaller than the published shape

  int64_t rows() const { return tokens * k; }
  int64_t inner() const;  // rows of w_in per expert
  double weights() const;
  double forward_flops() const;  // of both products
  std::string scale() const;     // "1/64 tokens, 1/8 widths"; "full"
};

// The layers that published mixture-of-experts kernels report, vision layers, and shapes for the
// gate and for moving rows alone; kernels/README.md says where each is from.
std::vector<LayerShape> layer_shapes();

// What one shape may ask of a machine.
struct SizeLimits {
  double weights = std::numeric_limits<double>::infinity();  // elements
  double flops = std::numeric_limits<double>::infinity();    // of a forward pass
  double row_elements = std::numeric_limits<double>::infinity();
};
// So that a row of the benchmark takes tens of milliseconds on a few CPU cores.
inline constexpr SizeLimits kCpuLimits{.weights = 16e6, .flops = 1e9, .row_elements = 33e6};

// Halves the widths, then the tokens, until the shape is within the limits. `moe-layer`, the shape
// that targets are stated for, stays as it is.
LayerShape within(LayerShape shape, const SizeLimits& limits);

}  // namespace moat::bench
