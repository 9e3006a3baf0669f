#include "kernels/vision/augment.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/vision/augment_draw.h"

// Each byte of the window is read once and each value written once, at most 5 bytes a value: a warp
// takes a stretch of an image in vectors of 4. Every lane draws the image's window itself, ten
// rounds of Philox (twenty with cutout) for 16 values, instead of waiting for another lane's. Reads
// are single bytes, because a window starts anywhere; those of a warp lie together.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kInFlight = 4;
template <int N>
constexpr int64_t kStretch = kInFlight* kWarp* N;  // values

// Where the values of an image come from. All in 32 bits without sign: a coordinate before the
// image wraps to one behind it.
struct Window {
  uint32_t height, width, channels;
  AugmentDraw drawn;

  // The place of pixel (r, s) in the image, channel 0; below 2^31 unless it has none.
  static constexpr uint32_t outside = 0xffffffffu, cut = 0xfffffffeu;
  __device__ uint32_t operator()(uint32_t r, uint32_t s) const {
    if (drawn.cuts(r, s)) return cut;
    const uint32_t y = r + static_cast<uint32_t>(drawn.dy),
                   x = (drawn.flip ? width - 1 - s : s) + static_cast<uint32_t>(drawn.dx);
    return y < height && x < width ? (y * width + x) * channels : outside;
  }
};

template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) augment_kernel(Augment a, int64_t values) {
  const Stretch s = warp_stretch(values, kStretch<N>);
  if (s.row >= a.n) return;
  const Window window{.height = static_cast<uint32_t>(a.height),
                      .width = static_cast<uint32_t>(a.width),
                      .channels = static_cast<uint32_t>(a.channels),
                      .drawn = draw_of(a, a.ids[s.row])};
  const uint8_t* image = a.images + s.row * values;
  float* y = a.y + s.row * values;
  const float max_value = static_cast<float>(a.max_value);
#pragma unroll
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t at = s.first + (u * kWarp + lane_index()) * N;
    if (at >= s.last) return;
    const uint32_t first_pixel = static_cast<uint32_t>(at) / window.channels;
    uint32_t channel = static_cast<uint32_t>(at) - first_pixel * window.channels;
    uint32_t row = first_pixel / window.width, column = first_pixel - row * window.width;
    Vector<float, N> to;
#pragma unroll
    for (int v = 0; v < N; ++v) {
      const uint32_t from = window(row, column);
      if (from < Window::cut)
        to.values[v] = __fdiv_rn(static_cast<float>(image[from + channel]), max_value);
      else
        to.values[v] = from == Window::cut && a.fill ? a.fill[channel] : 0.0f;
      if (++channel < window.channels) continue;
      channel = 0;
      if (++column < window.width) continue;
      column = 0;
      ++row;
    }
    store(y + at, to);
  }
}

}  // namespace

Status augment(Cuda on, const Augment& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t values = int64_t{a.height} * a.width * a.channels;
  return with_vector<float>(values, {a.y}, [&]<int N>() {
    return launch(on, stretch_grid(a.n, values, kStretch<N>, kWarps), augment_kernel<N>, a, values);
  });
}

}  // namespace moat::kernels
