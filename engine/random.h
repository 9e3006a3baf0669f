#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace moat::engine {

// What a random number is for; part of the counter, so that two purposes never share a draw.
enum class Purpose : uint8_t {
  initialise = 0,    // weights; stream = running number of the parameter
  shuffle = 1,       // order of an epoch; iteration = epoch
  augment = 2,       // iteration = epoch
  attack_start = 3,  // iteration = 0, stream = restart
  attack_noise = 4,
  gate_noise = 5,
  test = 6,
  synthesise = 7,  // pixels of the synthetic data set
  smoothing = 8,   // of an attack's gradient; iteration = number of the look, stream = of the draw
  attack_query = 9,  // iteration = query, stream = restart
};

// Philox4x32-10 (Salmon et al. 2011), the same numbers on every target: key = seed; counter =
// (element / 4, sample, iteration, purpose : 8 | stream : 24).
struct RandomKey {
  uint64_t seed = 0;
  Purpose purpose = Purpose::test;
  uint32_t iteration = 0;
  uint32_t stream = 0;  // below 2^24: restart, target or layer
};

// One row per sample id: samples int32 [n], shape [n, …]. Element numbers count a row in the order
// (C, H, W) for rank 4 (the tensor is NHWC), in memory order otherwise.
Tensor random_uniform(const Shape& shape, const Tensor& samples, const RandomKey& key, double low,
                      double high, Dtype dtype = Dtype::f32);
Tensor random_normal(const Shape& shape, const Tensor& samples, const RandomKey& key, double mean,
                     double deviation, Dtype dtype = Dtype::f32);

// One host draw, uniform in [0, 2^32).
uint32_t random_bits(const RandomKey& key, uint32_t sample, uint32_t element = 0);

// A permutation of 0 … n-1 that depends on the key alone (Fisher-Yates over the counter).
std::vector<int32_t> random_permutation(int64_t n, const RandomKey& key);

}  // namespace moat::engine
