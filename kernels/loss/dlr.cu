#include "kernels/loss/dlr.h"

#include <bit>
#include <climits>

#include "kernels/loss/dlr_row.h"
#include "kernels/loss/row_softmax.cuh"

namespace moat::kernels {

namespace {

// A row is read once from memory; each thread keeps the leaders of its own classes in registers,
// and the row's leaders are taken from these one by one. Gradients are written once.

// Larger for larger logits, largest for NaN, and above 0.
__device__ uint64_t key_of(double x) {
  if (x != x) return UINT64_MAX;
  constexpr uint64_t kSign = uint64_t{1} << 63;
  const uint64_t bits = std::bit_cast<uint64_t>(x + 0.0);  // -0 is 0
  return bits & kSign ? ~bits : bits | kSign;
}

// The classes with the largest logits; INT_MAX where a row has fewer.
template <int Threads, class T>
__device__ void find_leaders(const RowThreads<Threads>& mine, const T* z, int classes,
                             int (&leaders)[kLeaders]) {
  uint64_t keys[kLeaders] = {};
  int own[kLeaders] = {INT_MAX, INT_MAX, INT_MAX, INT_MAX};
  for (int i = mine.thread; i < classes; i += Threads) {
    uint64_t key = key_of(compute_t<T>(z[i]));
    int at = i;
#pragma unroll
    for (int n = 0; n < kLeaders; ++n)  // what is pushed out goes on down the list
      if (key > keys[n] || (key == keys[n] && at < own[n])) {
        const uint64_t other_key = keys[n];
        const int other = own[n];
        keys[n] = key;
        own[n] = at;
        key = other_key;
        at = other;
      }
  }
#pragma unroll
  for (int n = 0; n < kLeaders; ++n) {
    const uint64_t best = mine.reduce(keys[0], Largest());
    leaders[n] = mine.reduce(keys[0] == best ? own[0] : INT_MAX, Smallest());
    if (own[0] != leaders[n]) continue;
#pragma unroll
    for (int m = 0; m + 1 < kLeaders; ++m) {
      keys[m] = keys[m + 1];
      own[m] = own[m + 1];
    }
    keys[kLeaders - 1] = 0;
    own[kLeaders - 1] = INT_MAX;
  }
}

// A row with a label and a target that are classes; all threads take part in `leaders`.
template <class T, class Args>
__device__ DlrRow row_of(const Args& a, int64_t r, const int (&leaders)[kLeaders]) {
  const T* logits = static_cast<const T*>(a.logits) + r * a.classes;
  return dlr_row(leaders, a.labels[r], a.targets ? a.targets + r : nullptr,
                 [&](int i) { return double{compute_t<T>(logits[i])}; });
}

template <class Args>
__device__ bool has_classes(const Args& a, int64_t r) {
  const auto is_class = [&](int i) { return i >= 0 && i < a.classes; };
  return is_class(a.labels[r]) && (!a.targets || is_class(a.targets[r]));
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) dlr_kernel(Dlr a) {
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  int leaders[kLeaders];
  find_leaders(mine, static_cast<const T*>(a.logits) + mine.row * a.classes, a.classes, leaders);
  if (mine.thread > 0) return;
  const double value =
      has_classes(a, mine.row) ? row_of<T>(a, mine.row, leaders).value() : double(NAN);
  static_cast<T*>(a.values)[mine.row] = T(static_cast<compute_t<T>>(value));
}

template <class T, int Threads>
__global__ void __launch_bounds__(kRowBlock) dlr_grad_kernel(DlrGrad a) {
  using C = compute_t<T>;
  const RowThreads<Threads> mine;
  if (mine.row >= a.rows) return;
  int leaders[kLeaders];
  find_leaders(mine, static_cast<const T*>(a.logits) + mine.row * a.classes, a.classes, leaders);
  T* d_z = static_cast<T*>(a.d_logits) + mine.row * a.classes;
  const double d = C(static_cast<const T*>(a.d_values)[mine.row]);
  const bool is_valid = has_classes(a, mine.row);
  const DlrRow row = is_valid ? row_of<T>(a, mine.row, leaders) : DlrRow{};
  for (int i = mine.thread; i < a.classes; i += Threads)
    d_z[i] = T(static_cast<C>(is_valid ? d * row.slope(i) : double(NAN)));
}

template <class Args>
bool is_valid(const Args& a) {
  return a.rows >= 0 && (a.rows == 0 || a.classes >= (a.targets ? 4 : 3));
}

}  // namespace

Status dlr(Cuda on, const Dlr& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), dlr_kernel<T, Threads>, a);
    });
  });
}

Status dlr_grad(Cuda on, const DlrGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    return with_row_threads(a.classes, [&]<int Threads>() {
      return launch(on, row_grid<Threads>(a.rows), dlr_grad_kernel<T, Threads>, a);
    });
  });
}

}  // namespace moat::kernels
