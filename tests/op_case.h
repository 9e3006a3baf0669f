#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace moat::tests {

using engine::Dtype;
using engine::Shape;
using engine::Tensor;
using engine::Tensors;

// One row per op: feeds every check in check_op() and, at Scale::bench, the microbenchmark.
struct OpCase {
  std::string name;
  // The same at every call; floating ones are float64, which checks convert. Drawn when asked for,
  // because those of Scale::bench take seconds.
  std::function<Tensors()> inputs;
  std::function<Tensors(const Tensors&)> op;
  // The same in float64 by plain loops, written independently of the op.
  std::function<Tensors(const Tensors&)> reference;
  std::vector<int> differentiable = {};  // inputs checked by random projection
  std::vector<int> differentiable_outputs = {0};
  // Inputs that stay float32 when the others are bfloat16 (master weights, norms).
  std::vector<int> keep_float32 = {};
  // Per output, an element's allowed error is tolerance · bound; bound defaults to
  // max(1, largest |reference|) of the output, products give Σ|a||b| per element instead.
  std::function<Tensors(const Tensors&)> bound = {};
  double f64 = 1e-12, f32 = 1e-6, bf16 = 0;  // bf16 = 0: the op does not take bfloat16
  double gradient = 1e-7;                    // relative error of the float64 projection check
  double bytes = 0, flops = 0;               // moved and computed by one forward call
};

enum class Scale { test, bench };

// Runs forward = reference (float64, float32, bfloat16 where the case and the machine have it),
// float64 gradients by random projection, float32 gradients against float64, strided views,
// poisoned outputs and two bitwise equal runs. Fails through Catch2.
void check_op(const OpCase& op_case);
// The same row on a GPU: forward against the reference, gradients against the CPU's in float64,
// strided views, poisoned outputs, two bitwise equal runs, operands on two devices refused.
void check_op_on(engine::Device gpu, const OpCase& op_case);

// Normal draws in float64, the same every time for one stream number.
Tensor randn(const Shape& shape, uint32_t stream = 0);
Tensor rand_ints(const Shape& shape, int low, int high,
                 uint32_t stream = 0);  // int32 in [low, high)

// Shape and number format too; on any device.
bool same_bits(const Tensor& a, const Tensor& b);

// Reads an element of a float64 (or any floating) tensor by index; for plain reference loops.
inline double* f64(const Tensor& t) { return t.data_as<double>(); }

// Rows of each family: tests/cases/<family>.cpp.
std::vector<OpCase> elementwise_cases(Scale scale);
std::vector<OpCase> shape_cases(Scale scale);
std::vector<OpCase> reduce_cases(Scale scale);
std::vector<OpCase> linalg_cases(Scale scale);
std::vector<OpCase> vision_cases(Scale scale);
std::vector<OpCase> norm_cases(Scale scale);
std::vector<OpCase> attention_cases(Scale scale);
std::vector<OpCase> loss_cases(Scale scale);
std::vector<OpCase> grouped_conv_cases(Scale scale);
std::vector<OpCase> moe_cases(Scale scale);
std::vector<OpCase> routing_cases(Scale scale);
std::vector<OpCase> ball_cases(Scale scale);
std::vector<OpCase> all_cases(Scale scale);

}  // namespace moat::tests
