#include "kernels/update/square_linf.h"

#include <algorithm>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

Status square_linf(Cpu, const SquareLinf& a) {
  if (!is_valid(a) || !indices_in_range(a.rows, a.n, a.images)) return Status::bad_args;
  const int64_t values = int64_t{a.height} * a.width * a.channels;
  parallel_for(a.n, 1 + 32768 / (values + 1), [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const int64_t image = a.rows[i] * values;
      float* y = a.y + i * values;
      std::copy_n(a.best + image, values, y);
      const Window square = square_draw(a.key, a.ids[i], a.side, a.height, a.width).first;
      SquareSigns signs(a.key, a.ids[i]);
      for (int k = 0; k < a.channels; ++k) {
        const float* end = (signs.is_plus(k) ? a.high : a.low) + image;
        for (int row = square.top; row < square.top + a.side; ++row) {
          const int64_t first = (int64_t{row} * a.width + square.left) * a.channels + k;
          for (int column = 0; column < a.side; ++column)
            y[first + column * a.channels] = end[first + column * a.channels];
        }
      }
    }
  });
  return Status::ok;
}

}  // namespace moat::kernels
