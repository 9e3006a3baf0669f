#include "kernels/update/square_linf.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"

// 8 bytes a value, 12 within the square: the best point is read, the candidate written. A warp
// takes a stretch of an image in vectors of 4, and every lane draws the image's square itself
// instead of waiting for another lane's.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kInFlight = 4;
template <int N>
constexpr int64_t kStretch = kInFlight* kWarp* N;  // values

template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) square_linf_kernel(SquareLinf a, int64_t values) {
  const Stretch s = warp_stretch(values, kStretch<N>);
  if (s.row >= a.n) return;
  const int64_t row = a.rows[s.row], image = row < 0 ? 0 : row < a.images ? row : a.images - 1;
  const int32_t id = a.ids[s.row];
  const Window square = square_draw(a.key, id, a.side, a.height, a.width).first;
  SquareSigns signs(a.key, id);
  const float *best = a.best + image * values, *low = a.low + image * values,
              *high = a.high + image * values;
  float* y = a.y + s.row * values;
#pragma unroll
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t at = s.first + (u * kWarp + lane_index()) * N;
    if (at >= s.last) return;
    int channel = static_cast<int>(at % a.channels);
    const int pixel = static_cast<int>(at / a.channels);
    int y_of = pixel / a.width, x_of = pixel - y_of * a.width;
    Vector<float, N> to = load<N>(best + at);
#pragma unroll
    for (int v = 0; v < N; ++v) {
      if (square.holds(y_of, x_of)) to.values[v] = (signs.is_plus(channel) ? high : low)[at + v];
      if (++channel < a.channels) continue;
      channel = 0;
      if (++x_of < a.width) continue;
      x_of = 0;
      ++y_of;
    }
    store(y + at, to);
  }
}

}  // namespace

Status square_linf(Cuda on, const SquareLinf& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t values = int64_t{a.height} * a.width * a.channels;
  return with_vector<float>(values, {a.best, a.y}, [&]<int N>() {
    return launch(on, stretch_grid(a.n, values, kStretch<N>, kWarps), square_linf_kernel<N>, a,
                  values);
  });
}

}  // namespace moat::kernels
