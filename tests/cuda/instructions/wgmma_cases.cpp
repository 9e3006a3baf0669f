#include <bit>

#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

constexpr size_t kM = 64;

float bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// An operand as it lies in memory: along k, [rows, kDepth], or along its rows, [kDepth, rows].
enum class Along { k, rows };
struct Operand {
  Words words;
  size_t rows;
  Along along = Along::k;
  float at(size_t row, size_t k) const {
    return bf16(half_at(words, along == Along::k ? row * kDepth + k : k * rows + row));
  }
};
Operand operand(size_t rows, Along along, uint32_t seed) {
  return {small_bf16(rows * kDepth, seed), rows, along};
}

// factor a b^T of the first `depth` of k.
Words product(const Operand& a, const Operand& b, float factor, size_t depth = kDepth) {
  Words out;
  for (size_t row = 0; row < a.rows; ++row)
    for (size_t column = 0; column < b.rows; ++column) {
      float sum = 0;
      for (size_t k = 0; k < depth; ++k) sum += a.at(row, k) * b.at(column, k);
      out.push_back(std::bit_cast<uint32_t>(factor * sum));
    }
  return out;
}
Words joined(Words first, const Words& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

constexpr const char* kAll = "wgmma_m64k16_bf16 wgmma_fence wgmma_commit wgmma_wait wgmma_keep";

InstructionCase product_case(RunInstruction* run, size_t n, Along a_along, Along b_along) {
  const Operand a = operand(kM, a_along, 51), b = operand(n, b_along, 52);
  return {kAll, run, joined(a.words, b.words), product(a, b, 2), 9};
}

}  // namespace

std::vector<InstructionCase> wgmma_cases() {
  const Operand a = operand(kM, Along::k, 53), b = operand(kM, Along::k, 54);
  const Words in = joined(a.words, b.words);
  return {
      product_case(run_wgmma_16_rows, 16, Along::k, Along::k),
      product_case(run_wgmma_32_rows, 32, Along::k, Along::k),
      product_case(run_wgmma_64_rows, 64, Along::k, Along::k),
      product_case(run_wgmma_64_rows_mn, 64, Along::k, Along::rows),
      product_case(run_wgmma_64, 64, Along::k, Along::k),
      product_case(run_wgmma_128, 128, Along::k, Along::k),
      product_case(run_wgmma_192, 192, Along::k, Along::k),
      product_case(run_wgmma_256, 256, Along::k, Along::k),
      product_case(run_wgmma_64_mn, 64, Along::rows, Along::rows),
      product_case(run_wgmma_128_mn, 128, Along::rows, Along::rows),
      product_case(run_wgmma_256_mn, 256, Along::rows, Along::rows),
      product_case(run_wgmma_192_mixed, 192, Along::k, Along::rows),
      {"wgmma_m64k16_bf16 fence_proxy_async shared_address", run_wgmma_written, in,
       product(a, b, 1), 9},
      {"wgmma_m64k16_bf16 wgmma_wait", run_wgmma_groups, in,
       joined(product(a, b, 1, 16), product(b, a, 1, 16)), 9},
      {"wgmma_m64k16_bf16", run_wgmma_plain, in, product(a, b, 1), 9},
      {"wgmma_m64k16_bf16", run_wgmma_plain_mn, in, product(a, b, 1), 9},
  };
}

}  // namespace moat::tests
