#pragma once

// Convolution by its definition in float64, for the cases that need one.

#include <cmath>

#include "engine/ops/vision.h"
#include "tests/op_case.h"

namespace moat::tests {

enum class Terms { signed_values, magnitudes };  // magnitudes: Σ|x||filter|, the error bound

// x [n, h, w, c] and filter rows [expert_of(image) · c_out, …) of filter [rows, r, s, c].
template <class ExpertOf>
Tensor reference_conv(const Tensor& x, const Tensor& filter, int64_t c_out, ExpertOf&& expert_of,
                      const engine::Conv2dOptions& o, Terms terms) {
  const int64_t n = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3), r = filter.dim(1),
                s = filter.dim(2);
  const int64_t rows = (h + 2 * o.padding - r) / o.stride + 1,
                columns = (w + 2 * o.padding - s) / o.stride + 1;
  Tensor y = Tensor::zeros({n, rows, columns, c_out}, Dtype::f64);
  const double *px = f64(x), *pf = f64(filter);
  double* py = f64(y);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t p = 0; p < rows; ++p)
      for (int64_t q = 0; q < columns; ++q)
        for (int64_t k = 0; k < c_out; ++k, ++py)
          for (int64_t u = 0; u < r; ++u)
            for (int64_t v = 0; v < s; ++v)
              for (int64_t ch = 0; ch < c; ++ch) {
                const int64_t row = p * o.stride + u - o.padding,
                              column = q * o.stride + v - o.padding;
                if (row < 0 || row >= h || column < 0 || column >= w) continue;
                const double term = px[((i * h + row) * w + column) * c + ch] *
                                    pf[(((expert_of(i) * c_out + k) * r + u) * s + v) * c + ch];
                *py += terms == Terms::magnitudes ? std::abs(term) : term;
              }
  return y;
}

inline Tensor reference_conv(const Tensor& x, const Tensor& filter, const engine::Conv2dOptions& o,
                             Terms terms = Terms::signed_values) {
  return reference_conv(
      x, filter, filter.dim(0), [](int64_t) { return 0; }, o, terms);
}

// Products: |error| <= 6 u Σ|a||b| in float32 (u = 2^-24, sums of a few hundred terms); bfloat16
// rounds the filter and the result, 2^-9 Σ|a||b| each.
inline constexpr double kProductF64 = 1e-14, kProductF32 = 4e-7, kProductBf16 = 0.008;

// The bfloat16 tolerance of products where this machine has them, else 0: not tested.
double product_bf16();

}  // namespace moat::tests
