#include "tests/cuda/instructions/cases.h"

#include "kernels/bf16.h"

namespace moat::tests {

namespace {

uint32_t next(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state ^ state >> 15;
}

}  // namespace

Words noise(size_t count, uint32_t seed) {
  Words words(count);
  for (uint32_t& word : words) word = next(seed);
  return words;
}

Words small_bf16(size_t count, uint32_t seed) {
  Words words((count + 1) / 2);
  for (size_t i = 0; i < count; ++i) {
    const int value = static_cast<int>(next(seed) >> 8 & 0xffff) % 9 - 4;
    set_half(words, i, kernels::Bf16(static_cast<float>(value)).bits);
  }
  return words;
}

uint8_t byte_at(const Words& words, size_t i) {
  return static_cast<uint8_t>(words[i / 4] >> i % 4 * 8);
}
void set_byte(Words& words, size_t i, uint8_t value) {
  words[i / 4] = (words[i / 4] & ~(0xffu << i % 4 * 8)) | static_cast<uint32_t>(value) << i % 4 * 8;
}

}  // namespace moat::tests
