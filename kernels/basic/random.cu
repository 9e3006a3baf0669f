#include "kernels/basic/random.h"

#include "kernels/basic/philox.h"
#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"

// The bits of random.cpp: compiled without contraction. A thread makes one Philox block, four
// values, and writes each once.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) random_kernel(Random a, int64_t blocks) {
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = item / blocks, block = item - row * blocks;
  if (row >= a.rows) return;
  const PhiloxBlock bits =
      philox({static_cast<uint32_t>(block), static_cast<uint32_t>(a.samples[row]), a.iteration,
              a.purpose << 24 | a.stream},
             a.seed);
  double values[4];
  if (a.distribution == Distribution::uniform) {
    for (int lane = 0; lane < 4; ++lane)
      values[lane] = a.p + (a.q - a.p) * unit_uniform(bits[lane]);
  } else {
    for (int lane = 0; lane < 4; lane += 2) {
      const auto pair = normal_pair(bits[lane], bits[lane + 1]);
      values[lane] = a.p + a.q * pair[0];
      values[lane + 1] = a.p + a.q * pair[1];
    }
  }
  const int64_t elements = a.pixels * a.channels, first = block * 4;
  T* y = static_cast<T*>(a.y) + row * elements;
  for (int lane = 0; lane < 4 && first + lane < elements; ++lane) {
    const int64_t channel = (first + lane) / a.pixels, pixel = (first + lane) - channel * a.pixels;
    y[pixel * a.channels + channel] = T(static_cast<compute_t<T>>(values[lane]));
  }
}

}  // namespace

Status random(Cuda on, const Random& a) {
  const int64_t elements = a.pixels * a.channels, blocks = (elements + 3) / 4;
  if (a.rows < 0 || a.pixels < 0 || a.channels < 0 || blocks > int64_t{1} << 32 ||
      a.purpose >= 1u << 8 || a.stream >= 1u << 24)
    return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return launch(on, {blocks_of(a.rows * blocks, kThreads), dim3(kThreads)}, random_kernel<T>, a,
                  blocks);
  });
}

}  // namespace moat::kernels
