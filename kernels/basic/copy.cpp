#include "kernels/basic/copy.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/basic/any_dtype.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;  // elements a thread takes at least

template <class From, class To>
To converted(From x) {
  if constexpr (std::is_same_v<From, To>)
    return x;
  else
    return static_cast<To>(static_cast<compute_t<To>>(static_cast<compute_t<From>>(x)));
}

// Row-major strides of the non-trivial axes: both sides are one run of memory.
bool is_dense(const Copy& a) {
  int64_t run = 1;
  for (size_t i = 6; i-- > 0;) {
    if (a.extents[i] == 1) continue;
    if (a.from_strides[i] != run || a.to_strides[i] != run) return false;
    run *= a.extents[i];
  }
  return true;
}

template <class From, class To>
void copy_dense(const Copy& a, int64_t count) {
  const auto* from = static_cast<const From*>(a.from);
  auto* to = static_cast<To*>(a.to);
  parallel_for(count, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) to[i] = converted<From, To>(from[i]);
  });
}

template <class From, class To>
void copy_strided(const Copy& a, int64_t count) {
  const auto* from = static_cast<const From*>(a.from);
  auto* to = static_cast<To*>(a.to);
  const int64_t inner = a.extents[5], rows = count / inner;
  parallel_for(rows, std::max<int64_t>(1, kGrain / inner), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      int64_t rest = row, source = 0, target = 0;
      for (size_t i = 5; i-- > 0;) {
        const int64_t index = rest % a.extents[i];
        rest /= a.extents[i];
        source += index * a.from_strides[i];
        target += index * a.to_strides[i];
      }
      for (int64_t j = 0; j < inner; ++j)
        to[target + j * a.to_strides[5]] =
            converted<From, To>(from[source + j * a.from_strides[5]]);
    }
  });
}

}  // namespace

Status copy(Cpu, const Copy& a) {
  int64_t count = 1;
  for (int64_t extent : a.extents) {
    if (extent < 0) return Status::bad_args;
    count *= extent;
  }
  if (count == 0) return Status::ok;
  const bool dense = is_dense(a);
  if (dense && a.from_dtype == a.to_dtype) {
    const int64_t bytes = count * static_cast<int64_t>(size_of(a.to_dtype));
    parallel_for(bytes, kGrain * 16, [&](int64_t from, int64_t to) {
      std::memcpy(static_cast<char*>(a.to) + from, static_cast<const char*>(a.from) + from,
                  static_cast<size_t>(to - from));
    });
    return Status::ok;
  }
  return with_any(a.from_dtype, [&]<class From>() {
    return with_any(a.to_dtype, [&]<class To>() {
      if (dense)
        copy_dense<From, To>(a, count);
      else
        copy_strided<From, To>(a, count);
      return Status::ok;
    });
  });
}

Status fill(Cpu, const Fill& a) {
  if (a.count < 0) return Status::bad_args;
  return with_any(a.dtype, [&]<class T>() {
    const T value = converted<double, T>(a.value);
    auto* to = static_cast<T*>(a.to);
    parallel_for(a.count, kGrain,
                 [&](int64_t from, int64_t end) { std::fill(to + from, to + end, value); });
    return Status::ok;
  });
}

}  // namespace moat::kernels
