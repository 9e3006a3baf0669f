#pragma once

// Several neighbouring values in one memory access of 16 bytes, where addresses allow it.

#include <bit>
#include <initializer_list>

#include "kernels/cuda.cuh"

namespace moat::kernels {

// Values of T in 16 bytes.
template <class T>
inline constexpr int kVectorSize = 16 / static_cast<int>(sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  static_assert(N == 1 || N == kVectorSize<T>);
  T values[N];
};

// Moves values[0 .. N); the address is a multiple of sizeof(T) * N.
template <int N, class T>
__device__ Vector<T, N> load(const T* from) {
  if constexpr (N == 1)
    return {*from};
  else
    return std::bit_cast<Vector<T, N>>(*reinterpret_cast<const uint4*>(from));
}
template <class T, int N>
__device__ void store(T* to, const Vector<T, N>& vector) {
  if constexpr (N == 1)
    *to = vector.values[0];
  else
    __stcg(reinterpret_cast<uint4*>(to),
           std::bit_cast<uint4>(vector));  // nvcc splits a plain store
}

// As load, from any address of a T: for sums whose order must not depend on where values lie.
template <int N, class T>
__device__ Vector<T, N> load_anywhere(const T* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Vector<T, N>) == 0) return load<N>(from);
  Vector<T, N> vector;
#pragma unroll
  for (int n = 0; n < N; ++n) vector.values[n] = from[n];
  return vector;
}

// As store, to any address of a T: where a result goes must not choose N, on which the order of
// sums depends that are computed beside it.
template <class T, int N>
__device__ void store_anywhere(T* to, const Vector<T, N>& vector) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(vector) == 0) {
    store(to, vector);
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) to[n] = vector.values[n];
  }
}

// Calls f.operator()<N>() with N = kVectorSize<T> where rows of `width` values of T that start at
// each of the pointers (nullptr: unused) can be moved in whole vectors, else with N = 1.
template <class T, class F>
Status with_vector(int64_t width, std::initializer_list<const void*> pointers, F&& f) {
  bool fits = width % kVectorSize<T> == 0;
  for (const void* p : pointers) fits &= reinterpret_cast<uintptr_t>(p) % 16 == 0;
  return fits ? f.template operator()<kVectorSize<T>>() : f.template operator()<1>();
}

}  // namespace moat::kernels
