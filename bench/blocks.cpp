#include "bench/blocks.h"

#include <random>

namespace moat::bench {

NormalValues normal_values() {
  constexpr size_t kDrawn = 1'048'573;  // a prime
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  NormalValues values;
  values.single.resize(kDrawn);
  for (float& x : values.single) x = normal(engine);
  values.rounded = std::vector<kernels::Bf16>(values.single.begin(), values.single.end());
  return values;
}

void* Blocks::block(double elements, kernels::Dtype dtype) {
  const auto bytes = static_cast<size_t>(elements) * kernels::size_of(dtype);
  return blocks_.emplace_back(bench_.allocate(bytes)).get();
}

void* Blocks::normal_block(double elements, kernels::Dtype dtype) {
  void* data = block(elements, dtype);
  const size_t size = kernels::size_of(dtype), bytes = static_cast<size_t>(elements) * size;
  if (dtype == kernels::Dtype::bf16)
    bench_.repeat(data, bytes, normals_.rounded.data(), normals_.rounded.size() * size);
  else
    bench_.repeat(data, bytes, normals_.single.data(), normals_.single.size() * size);
  return data;
}

void Blocks::reserve(size_t bytes) {
  if (bytes <= workspace_bytes_) return;
  workspace_ = nullptr;
  workspace_ = bench_.allocate(bytes);
  workspace_bytes_ = bytes;
}

}  // namespace moat::bench
