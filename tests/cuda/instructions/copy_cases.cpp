#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

constexpr size_t kLanes = 32;

// Lane l keeps the first l % (bytes + 1) of its bytes; its neighbour's are looked at.
void expect_filled(const Words& in, size_t bytes, Words& out, size_t first) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const size_t other = (lane + 1) % kLanes;
    for (size_t i = 0; i < bytes; ++i)
      set_byte(out, first + lane * bytes + i,
               i < other % (bytes + 1) ? byte_at(in, other * bytes + i) : uint8_t{0});
  }
}

Words filled(const Words& in) {
  Words out(kLanes * 28 / 4);
  expect_filled(in, 4, out, 0);
  expect_filled(in, 8, out, kLanes * 4);
  expect_filled(in, 16, out, kLanes * 12);
  return out;
}
Words filled_16(const Words& in) {
  Words out(kLanes * 4);
  expect_filled(in, 16, out, 0);
  return out;
}

Words vectors_reversed(const Words& in) {
  Words out(in.size());
  for (size_t i = 0; i < in.size(); ++i) out[i] = in[(kLanes - 1 - i / 4) * 4 + i % 4];
  return out;
}

// What a float is among the values that a format has, by distance: nearest, ties as asked.
enum class Ties { even, away };
double nearest(double x, int mantissa_bits, int min_exponent, double largest, Ties ties) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), min_exponent);
  const double unit = std::ldexp(1.0, exponent - mantissa_bits), scaled = x / unit;
  const double rounded = ties == Ties::even ? std::nearbyint(scaled) : std::round(scaled);
  const double y = rounded * unit;
  return std::abs(y) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : y;
}

uint32_t float_bits(double y) { return std::bit_cast<uint32_t>(static_cast<float>(y)); }

uint16_t bf16_bits(float x) {
  if (std::isnan(x)) return 0x7fff;
  const double largest = std::bit_cast<float>(0x7f7f0000u);
  return static_cast<uint16_t>(float_bits(nearest(x, 7, -126, largest, Ties::even)) >> 16);
}
uint16_t f16_bits(float x) {
  if (std::isnan(x)) return 0x7fff;
  const double y = nearest(x, 10, -14, 65504, Ties::even), size = std::abs(y);
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isinf(y)) return sign | 0x7c00;
  if (size < 0x1p-14) return static_cast<uint16_t>(sign | static_cast<int>(size * 0x1p24));
  const int exponent = std::ilogb(size);
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 |
                               (static_cast<int>(std::ldexp(size, 10 - exponent)) - 1024));
}
uint32_t tf32_bits(float x) {
  const double largest = std::bit_cast<float>(0x7f7fe000u);
  return float_bits(nearest(x, 10, -126, largest, Ties::away));
}

// Ties, neighbours of ties, subnormals, overflow, infinities, and anything else.
Words floats_to_round() {
  Words words = noise(kRounded, 5);
  const uint32_t edges[] = {0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001,
                            0x3f801000, 0x3f803000, 0x3f800fff, 0x3f801001, 0xbf801000, 0xbf808000,
                            0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x7f800000, 0xff800000, 0x00000001,
                            0x00008000, 0x00018000, 0x00001000, 0x477fefff, 0x477ff000, 0x477fe000,
                            0x38800000, 0x387fe000, 0x33000000, 0x33000001, 0x33c00000, 0x337fffff};
  std::copy(std::begin(edges), std::end(edges), words.begin());
  for (size_t i = 64; i < 256; ++i)  // as large as float16
    words[i] = (words[i] & 0x807fffffu) | (95 + words[i] % 53) << 23;
  for (uint32_t& word : words)  // a NaN's bits are another matter
    if ((word & 0x7fffffffu) > 0x7f800000u) word &= 0xbfffffffu;
  return words;
}
Words packed(const Words& floats, uint16_t (*bits)(float)) {
  Words out(floats.size() / 2);
  for (size_t i = 0; i < floats.size(); ++i)
    set_half(out, i, bits(std::bit_cast<float>(floats[i])));
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

Words reduced(const Words& in) {
  uint32_t max = 0, min = ~0u, sum = 0;
  for (uint32_t word : in) max = std::max(max, word), min = std::min(min, word), sum += word;
  Words out(kLanes, max);
  out.resize(2 * kLanes, min);
  out.resize(3 * kLanes, sum);
  return out;
}

}  // namespace

std::vector<InstructionCase> copy_cases() {
  const Words bytes = noise(kLanes * 4, 1), words = noise(3 * kLanes, 2);
  return {
      {"cp_async cp_async_commit cp_async_wait", run_cp_async, bytes, filled(bytes)},
      {"cp_async_l1", run_cp_async_l1, bytes, filled_16(bytes)},
      {"cp_async_commit cp_async_wait", run_cp_async_groups, words, words},
      {"cp_async_arrive", run_cp_async_arrive, bytes, vectors_reversed(bytes), 9},
      {"prefetch_l2 load_once store_evict_first", run_hinted_copy, bytes, bytes},
  };
}

std::vector<InstructionCase> number_cases() {
  const Words floats = floats_to_round(), values = noise(kLanes, 3);
  return {
      {"pack_bf16", run_pack_bf16, with_nan(floats), packed(with_nan(floats), bf16_bits)},
      {"pack_f16", run_pack_f16, with_nan(floats), packed(with_nan(floats), f16_bits)},
      {"round_tf32", run_round_tf32, floats, rounded_to_tf32(floats)},
      {"redux_max redux_min redux_add", run_redux, values, reduced(values)},
  };
}

}  // namespace moat::tests
