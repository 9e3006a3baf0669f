#include "kernels/basic/copy.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <type_traits>

#include "kernels/basic/any_dtype.h"
#include "kernels/cuda.cuh"
#include "kernels/cuda/axes.cuh"
#include "kernels/cuda/stretch.cuh"
#include "kernels/cuda/vector.cuh"

// Every value is read once and written once, in the order of the target's memory: axes are sorted
// by its strides. A thread has two vectors under way, of 16 bytes in the wider format; a source
// that does not run along with the target is read value by value, from L1 or L2 where neighbours
// read the rest of its sectors (NHWC to NCHW and back). Without a conversion only sizes matter.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 2;  // vectors of a thread

template <int Bytes>
struct Word;
template <>
struct Word<1> {
  using type = uint8_t;
};
template <>
struct Word<2> {
  using type = uint16_t;
};
template <>
struct Word<4> {
  using type = uint32_t;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// N neighbouring values of T that one instruction moves, up to 16 bytes.
template <class T, int N>
struct Run {
  T values[N];

  using word = typename Word<static_cast<int>(sizeof(T)) * N>::type;
  __device__ static Run load(const T* from) {
    return std::bit_cast<Run>(*reinterpret_cast<const word*>(from));
  }
  __device__ void store(T* to) const {
    __stcg(reinterpret_cast<word*>(to), std::bit_cast<word>(*this));
  }
};

template <class From, class To>
__host__ __device__ To converted(From x) {
  if constexpr (std::is_same_v<From, To>)
    return x;
  else
    return static_cast<To>(static_cast<compute_t<To>>(static_cast<compute_t<From>>(x)));
}

// Values per vector.
template <class From, class To>
inline constexpr int kRun = 16 / static_cast<int>(std::max(sizeof(From), sizeof(To)));

// How a thread's values lie together.
struct Together {
  bool in_from;  // vectors along the first axis of the source
  bool in_axis;  // vectors do not cross the end of the first axis
  bool in_to;    // the target's are vectors; else threads take single values in turn
};

// a: the source, b: the target.
template <class From, class To>
Together together(const Axes& axes, const void* from, const void* to) {
  constexpr int N = kRun<From, To>;
  const auto starts_at = [](const void* p, size_t size) {
    return reinterpret_cast<uintptr_t>(p) % (size * N) == 0;
  };
  const bool in_axis = axes.rank == 1 || axes.extents[0] % N == 0;
  return {
      .in_from = starts_at(from, sizeof(From)) && is_run_of_vectors(axes, axes.a_strides, N),
      .in_axis = in_axis,
      .in_to = starts_at(to, sizeof(To)) && (in_axis ? is_run_of_vectors(axes, axes.b_strides, N)
                                                     : is_dense(axes, axes.b_strides))};
}

template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const From* from, To* to, Axes axes, Together together) {
  constexpr int N = kRun<From, To>;
  const int64_t block = int64_t{blockIdx.x} * kThreads * kInFlight * N;
  const auto copy_one = [&](int64_t i) {
    const Offsets at = offsets_of(axes, i);
    to[at.b] = converted<From, To>(from[at.a]);
  };
  if (!together.in_to) {
    for (int n = 0; n < kInFlight * N; ++n) {
      const int64_t i = block + n * kThreads + threadIdx.x;
      if (i < axes.count) copy_one(i);
    }
    return;
  }
  const auto first_of = [&](int u) { return block + (int64_t{u} * kThreads + threadIdx.x) * N; };
  Run<To, N> moved[kInFlight];
  int64_t target[kInFlight] = {};
#pragma unroll
  for (int u = 0; u < kInFlight; ++u) {
    const int64_t first = first_of(u);
    if (first + N > axes.count) {
      for (int64_t i = first; i < axes.count; ++i) copy_one(i);
      continue;
    }
    const Offsets at = offsets_of(axes, first);
    target[u] = at.b;
    if (together.in_axis && together.in_from) {
      const auto read = Run<From, N>::load(from + at.a);
#pragma unroll
      for (int n = 0; n < N; ++n) moved[u].values[n] = converted<From, To>(read.values[n]);
    } else {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const int64_t source =
            together.in_axis ? at.a + n * axes.a_strides[0] : offsets_of(axes, first + n).a;
        moved[u].values[n] = converted<From, To>(from[source]);
      }
    }
  }
#pragma unroll
  for (int u = 0; u < kInFlight; ++u)
    if (first_of(u) + N <= axes.count) moved[u].store(to + target[u]);
}

// The last axis is the one along which the target's memory runs.
Axes axes_of(const Copy& a) {
  std::array<size_t, 6> order = {0, 1, 2, 3, 4, 5};
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return std::abs(a.to_strides[i]) > std::abs(a.to_strides[j]);
  });
  std::array<int64_t, 6> extents{}, from{}, to{};
  for (size_t i = 0; i < 6; ++i) {
    extents[i] = a.extents[order[i]];
    from[i] = a.from_strides[order[i]];
    to[i] = a.to_strides[order[i]];
  }
  return merged_axes(extents, from, to);
}

template <class From, class To>
Status copy_all(Cuda on, const Copy& a) {
  const Axes axes = axes_of(a);
  const Grid grid{blocks_of(axes.count, int64_t{kThreads} * kInFlight * kRun<From, To>),
                  dim3(kThreads)};
  return launch(on, grid, copy_kernel<From, To>, static_cast<const From*>(a.from),
                static_cast<To*>(a.to), axes, together<From, To>(axes, a.from, a.to));
}

template <class F>
Status with_size(size_t bytes, F&& f) {
  switch (bytes) {
    case 8:
      return f.template operator()<uint64_t>();
    case 4:
      return f.template operator()<uint32_t>();
    case 2:
      return f.template operator()<uint16_t>();
    default:
      return f.template operator()<uint8_t>();
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* to, T value, int64_t count, bool whole) {
  constexpr int N = kVectorSize<T>;
  const int64_t block = int64_t{blockIdx.x} * kThreads * N, first = block + threadIdx.x * N;
  if (whole && first + N <= count) {
    Vector<T, N> values;
#pragma unroll
    for (T& x : values.values) x = value;
    store(to + first, values);
    return;
  }
  if (whole)
    for (int64_t i = first; i < count; ++i) to[i] = value;
  else
    for (int64_t i = block + threadIdx.x; i < min(block + kThreads * N, count); i += kThreads)
      to[i] = value;
}

}  // namespace

Status copy(Cuda on, const Copy& a) {
  int64_t count = 1;
  for (int64_t extent : a.extents) {
    if (extent < 0) return Status::bad_args;
    count *= extent;
  }
  if (count == 0) return Status::ok;
  if (a.from_dtype == a.to_dtype)
    return with_size(size_of(a.to_dtype),
                     [&]<class Bits>() { return copy_all<Bits, Bits>(on, a); });
  return with_any(a.from_dtype, [&]<class From>() {
    return with_any(a.to_dtype, [&]<class To>() {
      if constexpr (std::is_same_v<From, To>)
        return Status::bad_args;  // handled above
      else
        return copy_all<From, To>(on, a);
    });
  });
}

Status fill(Cuda on, const Fill& a) {
  if (a.count < 0) return Status::bad_args;
  return with_any(a.dtype, [&]<class T>() {
    return with_size(sizeof(T), [&]<class Bits>() {
      if constexpr (sizeof(Bits) != sizeof(T)) {
        return Status::bad_args;
      } else {
        const Bits value = std::bit_cast<Bits>(converted<double, T>(a.value));
        const bool whole = reinterpret_cast<uintptr_t>(a.to) % 16 == 0;
        return launch(on,
                      {blocks_of(a.count, int64_t{kThreads} * kVectorSize<Bits>), dim3(kThreads)},
                      fill_kernel<Bits>, static_cast<Bits*>(a.to), value, a.count, whole);
      }
    });
  });
}

}  // namespace moat::kernels
