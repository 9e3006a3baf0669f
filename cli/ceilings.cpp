#include "cli/ceilings.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <vector>

#include "engine/hardware.h"
#include "engine/ops/linalg.h"
#include "engine/random.h"
#include "engine/tensor.h"
#include "kernels/parallel.h"

namespace moat::cli {

namespace {

constexpr int kRepeats = 5;  // the best counts: others may be using the machine

template <class Work>
double best_seconds(Work&& work) {
  double best = 1e30;
  for (int i = 0; i <= kRepeats; ++i) {
    const auto from = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - from;
    if (i > 0) best = std::min(best, taken.count());  // the first run warms up
  }
  return best;
}

// Enough independent chains to hide the latency of the units: 12 vector registers of the widest
// kind this file is compiled for.
#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kChains = 12;
using Vector [[gnu::vector_size(kLanes * sizeof(float))]] = float;

float multiply_add(int64_t rounds) {
  // Chains that start alike, or at the fixed point 1, would be removed by the compiler.
  std::array<Vector, kChains> sums;
  for (int chain = 0; chain < kChains; ++chain)
    sums[chain] = Vector{} + static_cast<float>(chain + 2);
  const Vector scale = Vector{} + 0.999f, shift = Vector{} + 0.001f;
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 16  // the sums in registers, not in memory
    for (Vector& sum : sums) sum = sum * scale + shift;
  float total = 0;
  for (const Vector& sum : sums)
    for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
  return total;
}

double float32_gflops() {
  constexpr int64_t kRounds = 1'000'000;
  const int threads = engine::threads();
  std::vector<float> kept(static_cast<size_t>(threads));  // results that are used are not removed
  const double seconds = best_seconds([&] {
    kernels::parallel_for(threads, 1, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) kept[static_cast<size_t>(i)] += multiply_add(kRounds);
    });
  });
  return 2.0 * kLanes * kChains * kRounds * threads / seconds / 1e9;
}

double copy_gbps(int64_t floats, engine::Device device) {
  const engine::Tensor from = engine::Tensor::zeros({floats}, engine::Dtype::f32, device),
                       to = engine::Tensor::zeros({floats}, engine::Dtype::f32, device);
  const double seconds = best_seconds([&] {
    to.copy_from(from);
    engine::synchronize(device);
  });
  return 2.0 * static_cast<double>(from.nbytes()) / seconds / 1e9;
}

double product_tflops(engine::Device device) {
  constexpr int64_t kSide = 8192;
  std::vector<int32_t> rows(kSide);  // each its own numbers: equal ones multiply faster
  std::iota(rows.begin(), rows.end(), 0);
  const auto random = [&](uint32_t stream) {
    return engine::random_normal({kSide, kSide}, engine::Tensor::from(rows, {kSide}, device),
                                 {.stream = stream}, 0, 1, engine::Dtype::bf16);
  };
  const engine::Tensor a = random(0), b = random(1);
  const double seconds = best_seconds([&] {
    engine::matmul(a, b);
    engine::synchronize(device);
  });
  return 2.0 * kSide * kSide * kSide / seconds / 1e12;
}

// 128 MiB and 1 GiB: beyond every cache.
constexpr int64_t kCpuFloats = 32 << 20, kGpuFloats = 256 << 20;

}  // namespace

Ceilings measure_ceilings() { return {float32_gflops(), copy_gbps(kCpuFloats, {})}; }

GpuCeilings measure_ceilings(engine::Device gpu) {
  return {product_tflops(gpu), copy_gbps(kGpuFloats, gpu)};
}

}  // namespace moat::cli
