#include "kernels/vision/conv2d_patches.h"

#include <algorithm>
#include <numeric>

namespace moat::kernels {

namespace {

// Taps u of a filter with u mod stride = residue.
int taps_of_residue(int taps, int stride, int residue) {
  return residue < taps ? (taps - residue + stride - 1) / stride : 0;
}

struct Met {
  AxisClass kind;  // without coordinates
  int operand;     // the first
};

Met met_forward(int result, int in, int taps, int stride, int padding) {
  const int first = result * stride - padding;  // operand of tap 0
  const int from = std::max(0, -first), to = std::min(taps, in - first);
  return {{0, from, std::max(0, to - from), {}, {}}, first + from};
}

Met met_backward(int result, int out, int taps, int stride, int padding) {
  const int residue = (result + padding) % stride, last = (result + padding) / stride;
  const int of_residue = taps_of_residue(taps, stride, residue);
  const int first = last - of_residue + 1;  // operand of the group's first tap
  const int from = std::max(0, first), to = std::min(out, last + 1);
  return {{residue, from - first, std::max(0, to - from), {}, {}}, from};
}

}  // namespace

PatchAxis PatchAxis::of(FilterUse use, int in, int out, int taps, int stride, int padding) {
  const bool forward = use == FilterUse::forward;
  PatchAxis axis{forward ? in : out, forward ? out : in, {}, {}};
  if (forward) axis.group_taps = {taps};
  for (int residue = 0; !forward && residue < stride; ++residue)
    axis.group_taps.push_back(taps_of_residue(taps, stride, residue));
  for (int result = 0; result < axis.results; ++result) {
    Met met = forward ? met_forward(result, in, taps, stride, padding)
                      : met_backward(result, out, taps, stride, padding);
    if (met.kind.taps == 0) met = {{met.kind.group, 0, 0, {}, {}}, 0};
    const auto same = std::find_if(axis.classes.begin(), axis.classes.end(), [&](const auto& c) {
      return c.group == met.kind.group && c.first_tap == met.kind.first_tap &&
             c.taps == met.kind.taps;
    });
    AxisClass& kind = same != axis.classes.end() ? *same : axis.classes.emplace_back(met.kind);
    kind.results.push_back(result);
    kind.operands.push_back(met.operand);
  }
  return axis;
}

Patches::Patches(const Conv2dGeometry& g, FilterUse use)
    : rows_(PatchAxis::of(use, g.height, g.out_height(), g.r, g.stride, g.padding)),
      columns_(PatchAxis::of(use, g.width, g.out_width(), g.s, g.stride, g.padding)),
      stride_(g.stride) {}

int64_t Patches::tiles(int n, int largest) const {
  int64_t count = 0;
  for (const AxisClass& r : rows_.classes)
    for (const AxisClass& c : columns_.classes)
      count += (n * std::ssize(r.results) * std::ssize(c.results) + largest - 1) / largest;
  return count;
}

PatchTile Patches::tile(int n, int largest, int64_t index) const {
  for (const AxisClass& r : rows_.classes)
    for (const AxisClass& c : columns_.classes) {
      const int64_t pixels = n * std::ssize(r.results) * std::ssize(c.results),
                    count = (pixels + largest - 1) / largest;
      if (index < count) {
        const int64_t first = index * largest;
        return {&r, &c, first, static_cast<int>(std::min<int64_t>(largest, pixels - first))};
      }
      index -= count;
    }
  return {};
}

int Patches::position(int row_group, int row_tap, int column_group, int column_tap) const {
  const auto taps_before = [](const std::vector<int>& groups, int group) {
    return std::accumulate(groups.begin(), groups.begin() + group, 0);
  };
  const auto &rows = rows_.group_taps, &columns = columns_.group_taps;
  const int all_columns = taps_before(columns, static_cast<int>(columns.size()));
  return taps_before(rows, row_group) * all_columns +
         rows[static_cast<size_t>(row_group)] * taps_before(columns, column_group) +
         row_tap * columns[static_cast<size_t>(column_group)] + column_tap;
}

int Patches::position_of_filter_tap(int u, int v) const {
  const auto place = [&](const PatchAxis& axis, int tap) {
    return axis.group_taps[static_cast<size_t>(tap % stride_)] - 1 - tap / stride_;
  };
  return position(u % stride_, place(rows_, u), v % stride_, place(columns_, v));
}

void Patches::unroll(const PatchTile& tile, const float* operand, int channels,
                     float* patches) const {
  const int run = tile.columns->taps * channels;
  const int64_t row = int64_t{columns_.operands} * channels;
  for_each_pixel(tile, [&](int, int64_t pixel, int64_t) {
    const float* from = operand + pixel * channels;
    for (int t = 0; t < tile.rows->taps; ++t, from += row, patches += run)
      std::copy_n(from, run, patches);
  });
}

}  // namespace moat::kernels
