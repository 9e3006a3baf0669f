#include "kernels/loss/dlr.h"

#include <algorithm>
#include <cmath>

#include "kernels/index_range.h"
#include "kernels/loss/dlr_row.h"
#include "kernels/loss/row_softmax.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

// Whether a logit x sorts before one of a lower index, y.
bool overtakes(double x, double y) { return std::isnan(x) ? !std::isnan(y) : x > y; }

// Of row r; classes are enough for its form.
template <class T, class Args>
DlrRow row_of(const Args& a, int64_t r) {
  const T* logits = static_cast<const T*>(a.logits) + r * a.classes;
  const auto z = [&](int i) { return double{static_cast<compute_t<T>>(logits[i])}; };
  const int leading = std::min(kLeaders, a.classes);
  int leaders[kLeaders] = {-1, -1, -1, -1};
  for (int i = 0; i < a.classes; ++i) {
    int rank = std::min(i, leading);
    while (rank > 0 && overtakes(z(i), z(leaders[rank - 1]))) --rank;
    for (int n = leading - 1; n > rank; --n) leaders[n] = leaders[n - 1];
    if (rank < leading) leaders[rank] = i;
  }
  return dlr_row(leaders, a.labels[r], a.targets ? a.targets + r : nullptr, z);
}

template <class Args>
bool is_valid(const Args& a) {
  const int needed = a.targets ? 4 : 3;
  return a.rows >= 0 && (a.rows == 0 || a.classes >= needed) &&
         indices_in_range(a.labels, a.rows, a.classes) &&
         (!a.targets || indices_in_range(a.targets, a.rows, a.classes));
}

}  // namespace

Status dlr(Cpu, const Dlr& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r)
        static_cast<T*>(a.values)[r] = T(static_cast<compute_t<T>>(row_of<T>(a, r).value()));
    });
    return Status::ok;
  });
}

Status dlr_grad(Cpu, const DlrGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    parallel_for(a.rows, row_grain(a.classes), [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const DlrRow row = row_of<T>(a, r);
        T* d_z = static_cast<T*>(a.d_logits) + r * a.classes;
        const double d = C(static_cast<const T*>(a.d_values)[r]);
        for (int i = 0; i < a.classes; ++i) d_z[i] = T(static_cast<C>(d * row.slope(i)));
      }
    });
    return Status::ok;
  });
}

}  // namespace moat::kernels
