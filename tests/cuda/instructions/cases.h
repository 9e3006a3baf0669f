#pragma once

// The hardware differential test of kernels/ptx.cuh: each instruction in a small kernel (*.cu here)
// over integer-valued data, beside what plain loops or the documented mapping say that it writes
// (*_cases.cpp). Equal bits are asked for. In the interpreter this shows that the emulation is
// right, on a GPU that the instruction is what the emulation says.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/target.h"

namespace moat::tests {

using Words = std::vector<uint32_t>;  // what goes in and comes out, as 32-bit words

struct InstructionCase {
  std::string covers;  // functions of kernels/ptx, separated by spaces
  kernels::Status (*run)(kernels::Cuda, const uint32_t* in, uint32_t* out);
  Words in;
  Words expected;
  int min_major = 8;  // compute capability
};

// Families, each beside its kernels.
std::vector<InstructionCase> copy_cases();
std::vector<InstructionCase> number_cases();
std::vector<InstructionCase> mma_cases();
std::vector<InstructionCase> barrier_cases();
std::vector<InstructionCase> tma_cases();
std::vector<InstructionCase> wgmma_cases();

// `count` different-looking words.
Words noise(size_t count, uint32_t seed);
// `count` integers in -4 … 4 as bf16, two to a word: products of a thousand of them are exact.
Words small_bf16(size_t count, uint32_t seed);
// Element i of 16-bit data in words.
inline uint16_t half_at(const Words& words, size_t i) {
  return static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
}
inline void set_half(Words& words, size_t i, uint16_t value) {
  words[i / 2] = (words[i / 2] & (i % 2 == 0 ? 0xffff0000u : 0xffffu)) |
                 static_cast<uint32_t>(value) << i % 2 * 16;
}
uint8_t byte_at(const Words& words, size_t i);
void set_byte(Words& words, size_t i, uint8_t value);

}  // namespace moat::tests
