#include "kernels/basic/random.h"

#include <algorithm>

#include "kernels/basic/philox.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 512;  // Philox blocks a thread takes at least

std::array<double, 4> draws(const PhiloxBlock& bits, const Random& a) {
  std::array<double, 4> out;
  if (a.distribution == Distribution::uniform) {
    for (size_t lane = 0; lane < 4; ++lane)
      out[lane] = a.p + (a.q - a.p) * unit_uniform(bits[lane]);
    return out;
  }
  for (size_t lane = 0; lane < 4; lane += 2) {
    const auto [first, second] = normal_pair(bits[lane], bits[lane + 1]);
    out[lane] = a.p + a.q * first;
    out[lane + 1] = a.p + a.q * second;
  }
  return out;
}

}  // namespace

Status random(Cpu, const Random& a) {
  const int64_t elements = a.pixels * a.channels, blocks = (elements + 3) / 4;
  if (a.rows < 0 || a.pixels < 0 || a.channels < 0 || blocks > int64_t{1} << 32 ||
      a.purpose >= 1u << 8 || a.stream >= 1u << 24)
    return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.rows * blocks, kGrain, [&](int64_t from, int64_t to) {
      for (int64_t item = from; item < to; ++item) {
        const int64_t row = item / blocks, block = item % blocks;
        const PhiloxBlock counter = {static_cast<uint32_t>(block),
                                     static_cast<uint32_t>(a.samples[row]), a.iteration,
                                     a.purpose << 24 | a.stream};
        const auto values = draws(philox(counter, a.seed), a);
        T* y = static_cast<T*>(a.y) + row * elements;
        const int64_t first = block * 4, lanes = std::min<int64_t>(4, elements - first);
        int64_t channel = first / a.pixels, pixel = first % a.pixels;
        for (int64_t lane = 0; lane < lanes; ++lane) {
          y[pixel * a.channels + channel] =
              static_cast<T>(static_cast<compute_t<T>>(values[static_cast<size_t>(lane)]));
          if (++pixel < a.pixels) continue;
          pixel = 0;
          ++channel;
        }
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
