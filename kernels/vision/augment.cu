#include "kernels/vision/augment.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/vision/augment_draw.h"
#include "kernels/vision/triangle.h"

// Each byte of a window is read once and each value written once, at most 5 bytes a value: a warp
// takes a stretch of an image in vectors of 4. Every lane draws the image's crop itself, ten rounds
// of Philox (ten more for cutout and for each box) for 16 values, instead of waiting for another
// lane's. Reads are single bytes, because a crop starts anywhere; those of a warp lie together. A
// box's pixels are read again for each value they are part of, from L1.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kInFlight = 4;
template <int N>
constexpr int64_t kStretch = kInFlight* kWarp* N;  // values

// The pixels of a crop that is a window of the image. Places are in 32 bits without sign: one
// before the image wraps to one behind it.
struct Window {
  static constexpr int kUnrolled = kInFlight;
  const uint8_t* image;
  uint32_t height, width, channels;
  float max_value;
  uint32_t dy, dx;

  __device__ static AugmentDraw draw(const Augment& a, int32_t id) { return window_of(a, id); }
  __device__ Window(const Augment& a, const uint8_t* image, const AugmentDraw& drawn)
      : image(image),
        height(static_cast<uint32_t>(a.height)),
        width(static_cast<uint32_t>(a.width)),
        channels(static_cast<uint32_t>(a.channels)),
        max_value(static_cast<float>(a.max_value)),
        dy(static_cast<uint32_t>(drawn.dy)),
        dx(static_cast<uint32_t>(drawn.dx)) {}
  __device__ float operator()(uint32_t r, uint32_t s, uint32_t channel) const {
    const uint32_t y = r + dy, x = s + dx;
    if (y >= height || x >= width) return 0.0f;
    return __fdiv_rn(static_cast<float>(image[(y * width + x) * channels + channel]), max_value);
  }
};

// Those of a box that is resampled.
struct Box {
  static constexpr int kUnrolled = 1;
  const uint8_t* first;
  int64_t stride;
  int channels, max_value, height, width, y_height, y_width;

  __device__ static AugmentDraw draw(const Augment& a, int32_t id) { return box_of(a, id); }
  __device__ Box(const Augment& a, const uint8_t* image, const AugmentDraw& drawn)
      : first(image + (int64_t{drawn.dy} * a.width + drawn.dx) * a.channels),
        stride(int64_t{a.width} * a.channels),
        channels(a.channels),
        max_value(a.max_value),
        height(drawn.height),
        width(drawn.width),
        y_height(a.y_height),
        y_width(a.y_width) {}
  __device__ float operator()(uint32_t r, uint32_t s, uint32_t channel) const {
    return resampled(first + channel, stride, channels,
                     Triangle(static_cast<int>(r), height, y_height),
                     Triangle(static_cast<int>(s), width, y_width), max_value);
  }
};

template <class Pixels, int N>
__global__ void __launch_bounds__(kWarps* kWarp) augment_kernel(Augment a, int64_t values) {
  const Stretch s = warp_stretch(values, kStretch<N>);
  if (s.row >= a.n) return;
  const AugmentDraw drawn = Pixels::draw(a, a.ids[s.row]);
  const Pixels pixels(a, a.images + s.row * a.height * a.width * a.channels, drawn);
  const uint32_t channels = static_cast<uint32_t>(a.channels),
                 width = static_cast<uint32_t>(a.y_width);
  float* y = a.y + s.row * values;
#pragma unroll Pixels::kUnrolled
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t at = s.first + (u * kWarp + lane_index()) * N;
    if (at >= s.last) return;
    const uint32_t first_pixel = static_cast<uint32_t>(at) / channels;
    uint32_t channel = static_cast<uint32_t>(at) - first_pixel * channels;
    uint32_t row = first_pixel / width, column = first_pixel - row * width;
    Vector<float, N> to;
#pragma unroll
    for (int v = 0; v < N; ++v) {
      if (drawn.cuts(row, column))
        to.values[v] = a.fill ? a.fill[channel] : 0.0f;
      else
        to.values[v] = pixels(row, drawn.flip ? width - 1 - column : column, channel);
      if (++channel < channels) continue;
      channel = 0;
      if (++column < width) continue;
      column = 0;
      ++row;
    }
    store(y + at, to);
  }
}

template <class Pixels, int N>
Status run(Cuda on, const Augment& a, int64_t values) {
  return launch(on, stretch_grid(a.n, values, kStretch<N>, kWarps), augment_kernel<Pixels, N>, a,
                values);
}

}  // namespace

Status augment(Cuda on, const Augment& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t values = int64_t{a.y_height} * a.y_width * a.channels;
  // A box's values are stored one by one: its sums and divisions take the registers.
  if (a.crop == Crop::area) return run<Box, 1>(on, a, values);
  return with_vector<float>(values, {a.y}, [&]<int N>() { return run<Window, N>(on, a, values); });
}

}  // namespace moat::kernels
