#pragma once

// Resampling by triangles, in whole numbers: no order of summation changes a bit.

#include <cstdint>

namespace moat::kernels {

// Which pixels of a line of `from` make pixel d of the line of `to` that it is resampled to, and
// with what weight. The edges of both lie on each other, pixels are at half integers, and a
// reduction widens the triangle by its factor, so that every pixel counts (PIL's BILINEAR, and
// data::resized()). Lengths are in units of 1 / (2 · to) pixels of `from`; sides up to 2^14 keep
// them below 2^31.
struct Triangle {
  int centre, reach, to;
  int first = 0, last = 0;  // the pixels with a weight: [first, last)

  constexpr Triangle(int d, int from, int length)
      : centre((2 * d + 1) * from), reach(2 * (from > length ? from : length)), to(length) {
    const int before = centre - reach - to, behind = centre + reach - to;
    first = before < 0 ? 0 : before / (2 * to) + 1;
    last = (behind + 2 * to - 1) / (2 * to);
    if (last > from) last = from;
  }
  constexpr int weight(int pixel) const {
    const int away = (2 * pixel + 1) * to - centre;
    return reach - (away < 0 ? -away : away);
  }
  constexpr int64_t sum() const {
    int64_t all = 0;
    for (int p = first; p < last; ++p) all += weight(p);
    return all;
  }
};

// Value (row, column) of an image of bytes with rows of `stride` bytes and `channels` of them
// between two pixels, over max_value: the weighted mean, rounded in float64 and then to float32.
// For lines of at most kLongestResampled.
constexpr float resampled(const uint8_t* image, int64_t stride, int channels, const Triangle& row,
                          const Triangle& column, int max_value) {
  int64_t all = 0;
  for (int r = row.first; r < row.last; ++r) {
    const uint8_t* line = image + r * stride;
    int64_t sum = 0;
    for (int c = column.first; c < column.last; ++c)
      sum += int64_t{column.weight(c)} * line[int64_t{c} * channels];
    all += row.weight(r) * sum;
  }
  return static_cast<float>(static_cast<double>(all) /
                            static_cast<double>(row.sum() * column.sum() * max_value));
}

}  // namespace moat::kernels
