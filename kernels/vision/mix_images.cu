#include "kernels/vision/mix_images.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/vision/mix_draw.h"

// Both images' values are read and one is written, 12 bytes a value: a warp takes a stretch of an
// image in vectors of 4. Every lane makes its image's draw itself, some two hundred operations for
// 16 values, instead of waiting for another lane's. Compiled without contraction.

namespace moat::kernels {

namespace {

constexpr int kWarps = 8;  // per block
constexpr int kInFlight = 4;
template <int N>
constexpr int64_t kStretch = kInFlight* kWarp* N;  // values

template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) mix_images_kernel(MixImages a, int64_t values) {
  const Stretch s = warp_stretch(values, kStretch<N>);
  if (s.row >= a.n) return;
  const int64_t next = s.row + 1 < a.n ? s.row + 1 : 0;
  const MixDraw drawn = draw_of(a, a.ids[s.row]);
  if (s.first == 0 && lane_index() == 0) {
    const MixedLabel label = mixed_label(drawn.share, a.labels[s.row], a.labels[next]);
    a.mixed_labels[s.row] = label.label;
    a.other_labels[s.row] = label.other;
    a.weights[s.row] = label.weight;
  }
  const float* own_image = a.images + s.row * values;
  const float* next_image = a.images + next * values;
  float* y = a.y + s.row * values;
  const auto row_values = static_cast<uint32_t>(a.width) * static_cast<uint32_t>(a.channels);
  const uint32_t top = static_cast<uint32_t>(drawn.top),
                 bottom = static_cast<uint32_t>(drawn.bottom),
                 left = static_cast<uint32_t>(drawn.left) * static_cast<uint32_t>(a.channels),
                 right = static_cast<uint32_t>(drawn.right) * static_cast<uint32_t>(a.channels);
#pragma unroll
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t at = s.first + (u * kWarp + lane_index()) * N;
    if (at >= s.last) return;
    const auto own = load<N>(own_image + at), other = load<N>(next_image + at);
    uint32_t row = static_cast<uint32_t>(at) / row_values,
             in_row = static_cast<uint32_t>(at) - row * row_values;
    Vector<float, N> to;
#pragma unroll
    for (int v = 0; v < N; ++v) {
      const bool is_inside = row >= top && row < bottom && in_row >= left && in_row < right;
      to.values[v] = is_inside ? drawn.inside * own.values[v] + (1 - drawn.inside) * other.values[v]
                               : own.values[v];
      if (++in_row < row_values) continue;
      in_row = 0;
      ++row;
    }
    store(y + at, to);
  }
}

}  // namespace

Status mix_images(Cuda on, const MixImages& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t values = int64_t{a.height} * a.width * a.channels;
  return with_vector<float>(values, {a.images, a.y}, [&]<int N>() {
    return launch(on, stretch_grid(a.n, values, kStretch<N>, kWarps), mix_images_kernel<N>, a,
                  values);
  });
}

}  // namespace moat::kernels
