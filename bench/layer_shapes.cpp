#include "bench/layer_shapes.h"

#include "engine/error.h"

namespace moat::bench {

int64_t LayerShape::inner() const {
  return activation == ExpertActivation::swiglu ? 2 * hidden : hidden;
}

double LayerShape::weights() const {
  return static_cast<double>(experts) * static_cast<double>(width * (inner() + hidden));
}

double LayerShape::forward_flops() const {
  return 2 * static_cast<double>(rows()) * static_cast<double>(width * (inner() + hidden));
}

std::string LayerShape::scale() const {
  std::string out;
  if (tokens_divisor > 1) out = engine::text("1/", tokens_divisor, " tokens");
  if (widths_divisor > 1)
    out += engine::text(out.empty() ? "" : ", ", "1/", widths_divisor, " widths");
  return out.empty() ? "full" : out;
}

std::vector<LayerShape> layer_shapes() {
  using enum ExpertActivation;
  constexpr int64_t kVitTokens = 256 * 197;  // a batch of 256 images of 196 patches and a class
  std::vector<LayerShape> shapes{
      {"moe-layer", Parts::layer, 4096, 384, 1536, 8, 2, gelu, Biases::present},
      {"mixtral-8x7b", Parts::layer, 16384, 4096, 14336, 8, 2, swiglu},
      {"qwen3-235b", Parts::layer, 32768, 4096, 1536, 128, 8, swiglu},
      {"sonic-120b", Parts::layer, 32768, 4096, 1024, 128, 8, swiglu},
      {"sonic-30b", Parts::layer, 32768, 4096, 256, 256, 16, swiglu},
      {"olmoe-7b", Parts::layer, 32768, 2048, 1024, 64, 8, swiglu},
      {"qwen3-30b", Parts::layer, 32768, 2048, 768, 128, 8, swiglu},
      {"sonic-1.4b", Parts::layer, 40960, 768, 256, 128, 8, swiglu},
      {"deepseek-v3-slice", Parts::products, 8 * 4096, 7168, 2048, 8, 1, swiglu},
      {"glm", Parts::products, 262144, 6144, 4096, 256, 1},
      {"vit-b-8", Parts::layer, kVitTokens, 768, 3072, 8, 1, gelu, Biases::present},
      {"vit-b-32", Parts::layer, kVitTokens, 768, 3072, 32, 2, gelu, Biases::present},
      {"vit-s-8", Parts::layer, kVitTokens, 384, 1536, 8, 1, gelu, Biases::present},
      {"vit-s-32", Parts::layer, kVitTokens, 384, 1536, 32, 2, gelu, Biases::present},
      {"fastmoe-16", Parts::layer, 8192, 2048, 2048, 16, 2, gelu},
      {"fastmoe-64", Parts::layer, 4096, 1024, 4096, 64, 2, gelu},
      {"rows-deepseek", Parts::rows, 4096, 7168, 0, 128, 8},
      {"rows-qwen3", Parts::rows, 32768, 4096, 0, 128, 8},
      {"rows-megablocks", Parts::rows, 131072, 768, 0, 64, 1},
  };
  for (const int experts : {8, 32, 64, 128, 256})
    for (const int k : {1, 2, 8})
      shapes.push_back(
          {engine::text("gate-", experts, "-", k), Parts::gate, 65536, 0, 0, experts, k});
  return shapes;
}

LayerShape within(LayerShape shape, const SizeLimits& limits) {
  if (shape.name == "moe-layer") return shape;
  while (shape.weights() > limits.weights) {
    shape.width /= 2;
    shape.hidden /= 2;
    shape.widths_divisor *= 2;
  }
  const auto row_elements = [&] {
    return static_cast<double>(shape.rows()) * static_cast<double>(shape.width);
  };
  while (shape.tokens > 1 &&
         (shape.forward_flops() > limits.flops || row_elements() > limits.row_elements)) {
    shape.tokens /= 2;
    shape.tokens_divisor *= 2;
  }
  return shape;
}

}  // namespace moat::bench
