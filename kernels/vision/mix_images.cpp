#include "kernels/vision/mix_images.h"

#include <algorithm>

#include "kernels/vision/mix_draw.h"

namespace moat::kernels {

Status mix_images(Cpu, const MixImages& a) {
  if (!is_valid(a)) return Status::bad_args;
  const int64_t row = int64_t{a.width} * a.channels, values = a.height * row;
  for (int64_t i = 0; i < a.n; ++i) {
    const int64_t j = i + 1 < a.n ? i + 1 : 0;
    const MixDraw drawn = draw_of(a, a.ids[i]);
    const float* own = a.images + i * values;
    const float* next = a.images + j * values;
    float* y = a.y + i * values;
    std::copy_n(own, values, y);
    for (int64_t r = drawn.top; r < drawn.bottom; ++r)
      for (int64_t at = r * row + int64_t{drawn.left} * a.channels;
           at < r * row + int64_t{drawn.right} * a.channels; ++at)
        y[at] = drawn.inside * own[at] + (1 - drawn.inside) * next[at];
    const MixedLabel label = mixed_label(drawn.share, a.labels[i], a.labels[j]);
    a.mixed_labels[i] = label.label;
    a.other_labels[i] = label.other;
    a.weights[i] = label.weight;
  }
  return Status::ok;
}

}  // namespace moat::kernels
