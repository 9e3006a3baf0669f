#include <bit>

#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

constexpr size_t kLanes = 32;

// Of 8 x 8 matrices of 16 bits, a row after another.
Words transposed(const Words& matrices) {
  Words out(matrices.size());
  for (size_t m = 0; m < matrices.size() / 32; ++m)
    for (size_t row = 0; row < 8; ++row)
      for (size_t column = 0; column < 8; ++column)
        set_half(out, m * 64 + column * 8 + row, half_at(matrices, m * 64 + row * 8 + column));
  return out;
}
// Register i of lane l: of matrix i, word l % 4 of row l / 4.
Words loaded(const Words& matrices) {
  Words out;
  for (size_t i = 0; i < 4; ++i)
    for (size_t lane = 0; lane < kLanes; ++lane)
      out.push_back(matrices[(8 * i + lane / 4) * 4 + lane % 4]);
  return out;
}
// The matrices whose fragments are these.
Words stored(const Words& registers) {
  Words out(registers.size());
  for (size_t i = 0; i < 4; ++i)
    for (size_t lane = 0; lane < kLanes; ++lane)
      out[(8 * i + lane / 4) * 4 + lane % 4] = registers[i * kLanes + lane];
  return out;
}

float bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

Words whole_floats(size_t count, uint32_t seed) {
  Words out;
  for (uint32_t word : noise(count, seed))
    out.push_back(std::bit_cast<uint32_t>(static_cast<float>(word >> 4 & 1023) - 512.0f));
  return out;
}
Words joined(Words first, const Words& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// d + a b of a [16, depth], bt [8, depth], d [16, 8].
template <class Value>
Words product(int depth, Value a, Value bt, const Words& d) {
  Words out;
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = std::bit_cast<float>(d[static_cast<size_t>(row * 8 + column)]);
      for (int k = 0; k < depth; ++k)
        sum +=
            a(static_cast<size_t>(row * depth + k)) * bt(static_cast<size_t>(column * depth + k));
      out.push_back(std::bit_cast<uint32_t>(sum));
    }
  return out;
}

struct HalfProduct {
  Words in, out;
};
HalfProduct bf16_product(const Words& d) {
  const Words a = small_bf16(16 * 16, 11), b = small_bf16(8 * 16, 12);
  struct Element {
    const Words* words;
    float operator()(size_t i) const { return bf16(half_at(*words, i)); }
  };
  return {joined(joined(a, b), d), product(16, Element{&a}, Element{&b}, d)};
}
// Operands of 11 bits, which tf32 holds.
HalfProduct tf32_product(const Words& d) {
  const Words a = whole_floats(16 * 8, 13), b = whole_floats(8 * 8, 14);
  struct Element {
    const Words* words;
    float operator()(size_t i) const { return std::bit_cast<float>((*words)[i]); }
  };
  return {joined(joined(a, b), d), product(8, Element{&a}, Element{&b}, d)};
}

}  // namespace

std::vector<InstructionCase> mma_cases() {
  const Words matrices = noise(kLanes * 4, 21), d = whole_floats(16 * 8, 22), zeros(16 * 8);
  const HalfProduct half = bf16_product(d), from_zero = bf16_product(zeros),
                    single = tf32_product(d);
  return {
      {"ldmatrix_x4", run_ldmatrix, matrices, loaded(matrices)},
      {"ldmatrix_x4_trans", run_ldmatrix_trans, matrices, loaded(transposed(matrices))},
      {"stmatrix_x4", run_stmatrix, matrices, stored(matrices), 9},
      {"mma_m16n8k16_bf16", run_mma_bf16, half.in, half.out},
      {"mma_m16n8k8_tf32", run_mma_tf32, single.in, single.out},
      {"ldmatrix_x4 ldmatrix_x4_trans mma_m16n8k16_bf16", run_mma_from_ldmatrix, half.in,
       joined(from_zero.out, from_zero.out)},
  };
}

}  // namespace moat::tests
