#pragma once

// The products inside kernels that cut their work themselves, by oneDNN's sgemm. Included by .cpp
// files that call oneDNN.

#include <algorithm>
#include <atomic>
#include <utility>

#include "kernels/basic/gemm.h"
#include "kernels/library/onednn.h"
#include "kernels/parallel.h"

namespace moat::kernels {

// Row-major operands with leading dimensions. The library runs on the threads that OpenMP gives it
// here: see OneThreadScope.
template <class C>
struct Operand {
  const C* data;
  int64_t leading;
  Transpose transpose = Transpose::no;
};

class Products {
 public:
  // c [m, n] = op(a) [m, k] · op(b) [k, n], or c += with `add`.
  void operator()(int m, int n, int k, const Operand<float>& a, const Operand<float>& b, bool add,
                  float* c, int64_t leading) {
    if (m == 0 || n == 0 || k == 0) return clear(m, n, add, c, leading);  // sgemm takes none
    if (dnnl_sgemm(letter(a), letter(b), m, n, k, 1, a.data, a.leading, b.data, b.leading,
                   add ? 1.0f : 0.0f, c, leading) != dnnl_success)
      failed_ = true;
  }
  // float64, the reference: every sum over its terms in order.
  void operator()(int m, int n, int k, const Operand<double>& a, const Operand<double>& b, bool add,
                  double* c, int64_t leading) {
    clear(m, n, add, c, leading);
    const auto steps = [](const Operand<double>& x) {
      return x.transpose == Transpose::yes ? std::pair(int64_t{1}, x.leading)
                                           : std::pair(x.leading, int64_t{1});
    };
    const auto [a_row, a_column] = steps(a);
    const auto [b_row, b_column] = steps(b);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t p = 0; p < k; ++p)
        for (int64_t j = 0; j < n; ++j)
          c[i * leading + j] += a.data[i * a_row + p * a_column] * b.data[p * b_row + j * b_column];
  }

  // Throws dnnl::error when a product failed, for guarded().
  void check() const {
    if (failed_) throw dnnl::error(dnnl_runtime_error, "sgemm failed");
  }

 private:
  template <class C>
  static char letter(const Operand<C>& x) {
    return x.transpose == Transpose::yes ? 'T' : 'N';
  }
  template <class C>
  static void clear(int m, int n, bool add, C* c, int64_t leading) {
    for (int64_t i = 0; i < m && !add; ++i) std::fill_n(c + i * leading, n, C(0));
  }

  std::atomic<bool> failed_ = false;
};

}  // namespace moat::kernels
