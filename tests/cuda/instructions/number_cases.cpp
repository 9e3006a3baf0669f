#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

// What a float is among the values that a format has, by distance: nearest, ties as asked.
enum class Ties { even, away };
double nearest(double x, int mantissa_bits, double largest, Ties ties) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), -126);
  const double unit = std::ldexp(1.0, exponent - mantissa_bits), scaled = x / unit;
  const double rounded = ties == Ties::even ? std::nearbyint(scaled) : std::round(scaled);
  const double y = rounded * unit;
  return std::abs(y) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : y;
}

uint32_t float_bits(double y) { return std::bit_cast<uint32_t>(static_cast<float>(y)); }

uint16_t bf16_bits(float x) {
  if (std::isnan(x)) return 0x7fff;
  const double largest = std::bit_cast<float>(0x7f7f0000u);
  return static_cast<uint16_t>(float_bits(nearest(x, 7, largest, Ties::even)) >> 16);
}
uint32_t tf32_bits(float x) {
  const double largest = std::bit_cast<float>(0x7f7fe000u);
  return float_bits(nearest(x, 10, largest, Ties::away));
}

// Ties, neighbours of ties, subnormals, overflow, infinities, and anything else.
Words floats_to_round() {
  Words words = noise(kRounded, 5);
  const uint32_t edges[] = {0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001,
                            0x3f801000, 0x3f803000, 0x3f800fff, 0x3f801001, 0xbf801000, 0xbf808000,
                            0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x7f800000, 0xff800000, 0x00000001,
                            0x00008000, 0x00018000, 0x00001000};
  std::copy(std::begin(edges), std::end(edges), words.begin());
  for (uint32_t& word : words)  // a NaN's bits are another matter
    if ((word & 0x7fffffffu) > 0x7f800000u) word &= 0xbfffffffu;
  return words;
}
Words packed(const Words& floats) {
  Words out(floats.size() / 2);
  for (size_t i = 0; i < floats.size(); ++i)
    set_half(out, i, bf16_bits(std::bit_cast<float>(floats[i])));
  return out;
}
Words with_nan(Words words) {
  words[40] = 0x7fc00000;
  words[41] = 0xffffffff;
  words[43] = 0x7f800001;
  return words;
}
Words rounded_to_tf32(const Words& floats) {
  Words out;
  for (uint32_t word : floats) out.push_back(tf32_bits(std::bit_cast<float>(word)));
  return out;
}

// Numbers of any size up to `largest`, zero and infinities, and f of them. Subnormal results are
// zeros.
template <class F>
InstructionCase approximation(RunInstruction* run, const char* covers, double largest, F f) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::mt19937_64 bits(7);
  std::uniform_real_distribution<double> size(-20, std::log2(largest));
  std::vector<float> x{0, -0.0f, kInfinity, -kInfinity, 1, -1, 0.5f, 2};
  while (x.size() < kRounded) {
    const double magnitude = std::exp2(size(bits));
    x.push_back(static_cast<float>(bits() % 2 == 0 ? magnitude : -magnitude));
  }
  Words in, expected;
  for (const float v : x) in.push_back(std::bit_cast<uint32_t>(v));
  for (const float v : x) {
    float y = static_cast<float>(f(static_cast<double>(v)));
    if (std::abs(y) < std::numeric_limits<float>::min()) y = std::copysign(0.0f, y);
    expected.push_back(std::bit_cast<uint32_t>(y));
  }
  in.insert(in.end(), expected.begin(), expected.end());
  return {covers, run, in, expected};
}

}  // namespace

std::vector<InstructionCase> number_cases() {
  const Words floats = floats_to_round();
  return {
      {"pack_bf16", run_pack_bf16, with_nan(floats), packed(with_nan(floats))},
      {"round_tf32", run_round_tf32, floats, rounded_to_tf32(floats)},
      approximation(run_exp2, "approximate_exp2", 150, [](double x) { return std::exp2(x); }),
      approximation(run_reciprocal, "approximate_reciprocal", 1e38, [](double x) { return 1 / x; }),
  };
}

}  // namespace moat::tests
