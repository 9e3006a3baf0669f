#include "kernels/update/square_l2.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/warp.cuh"

// A block per image, channel after channel; every thread keeps to its own pixels, whose deltas wait
// in y until all channels are known. Passes after the first one read an image from L1 or L2. Sums
// run in the order of the block's threads, so that nothing depends on the batch.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads, 4) square_l2_kernel(SquareL2 a) {
  __shared__ double scratch[kThreads / kWarp];
  const int pixels = a.height * a.width;
  const int64_t point = blockIdx.x, row = a.rows[point],
                image = row < 0          ? 0
                        : row < a.images ? row
                                         : a.images - 1;
  const int64_t values = int64_t{pixels} * a.channels;
  const float *best = a.best + image * values, *center = a.center + image * values;
  float* y = a.y + point * values;
  const SquareDraw drawn = square_draw(a.key, a.ids[point], a.side, a.height, a.width);
  SquareSigns signs(a.key, a.ids[point]);

  const auto delta = [&](int64_t i) { return double{best[i]} - center[i]; };
  const auto sum_over = [&](auto&& term) {  // of all pixels, by place
    double sum = 0;
    for (int p = static_cast<int>(threadIdx.x); p < pixels; p += kThreads)
      sum += term(p, p / a.width, p % a.width);
    return block_reduce<kThreads>(sum, Sum(), scratch);
  };

  double unused = a.eps * a.eps;
  for (int k = 0; k < a.channels; ++k)
    unused -= sum_over([&](int p, int, int) {
      const double d = delta(int64_t{p} * a.channels + k);
      return d * d;
    });
  if (unused < 0) unused = 0;

  double squares = 0;
  for (int k = 0; k < a.channels; ++k) {
    const auto at = [&](int p) { return int64_t{p} * a.channels + k; };
    const double in_first = sum_over([&](int p, int row, int column) {
      return drawn.first.holds(row, column) ? delta(at(p)) * delta(at(p)) : 0;
    });
    const double in_both = in_first + sum_over([&](int p, int row, int column) {
                             const bool is_second =
                                 drawn.second.holds(row, column) && !drawn.first.holds(row, column);
                             return is_second ? delta(at(p)) * delta(at(p)) : 0;
                           });
    const double per_unit = 1 / (sqrt(in_first) + 1e-12), sign = signs.is_plus(k) ? 1 : -1;
    const auto bent = [&](int p, int row, int column) {
      const int u = row - drawn.first.top, v = column - drawn.first.left;
      const double bump = drawn.transposed ? a.bump[v * a.side + u] : a.bump[u * a.side + v];
      return sign * bump + per_unit * delta(at(p));
    };
    const double length = sum_over([&](int p, int row, int column) {
      if (!drawn.first.holds(row, column)) return 0.0;
      const double z = bent(p, row, column);
      return z * z;
    });
    const double scale = sqrt(unused / a.channels + in_both) / (sqrt(length) + 1e-12);
    squares += sum_over([&](int p, int row, int column) {
      const double moved = drawn.first.holds(row, column)    ? scale * bent(p, row, column)
                           : drawn.second.holds(row, column) ? 0
                                                             : delta(at(p));
      y[at(p)] = static_cast<float>(moved);
      return moved * moved;
    });
  }

  const double factor = squares > 0 ? a.eps / sqrt(squares) : 0;
  for (int p = static_cast<int>(threadIdx.x); p < pixels; p += kThreads)
    for (int k = 0; k < a.channels; ++k) {
      const int64_t i = int64_t{p} * a.channels + k;
      y[i] = static_cast<float>(center[i] + factor * y[i]);
    }
}

}  // namespace

Status square_l2(Cuda on, const SquareL2& a) {
  if (!is_valid(a)) return Status::bad_args;
  return launch(on, {dim3(static_cast<unsigned>(a.n)), dim3(kThreads)}, square_l2_kernel, a);
}

}  // namespace moat::kernels
