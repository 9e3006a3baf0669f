#pragma once

// Atomics: relaxed, as on a GPU. One device thread runs at a time, so a plain read and write is
// atomic; the runtime is told, and may let other threads run before it.

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace simt {

// The read and the write of an atomic, outside what the compiler instruments.
void atomic_read(void* address, size_t bytes, void* value);
void atomic_write(void* address, size_t bytes, const void* value);

// The argument of a template parameter that is deduced from the pointer alone.
template <class T>
using same_t = std::type_identity_t<T>;

template <class T, class Update>
[[gnu::always_inline]] inline T atomic_update(T* address, Update update) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  T before;
  atomic_read(address, sizeof(T), &before);
  const T after = update(before);
  atomic_write(address, sizeof(T), &after);
  return before;
}

}  // namespace simt

template <class T>
[[gnu::always_inline]] inline T atomicAdd(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return static_cast<T>(x + value); });
}
template <class T>
[[gnu::always_inline]] inline T atomicSub(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return static_cast<T>(x - value); });
}
template <class T>
[[gnu::always_inline]] inline T atomicMax(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return x < value ? value : x; });
}
template <class T>
[[gnu::always_inline]] inline T atomicMin(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return value < x ? value : x; });
}
template <class T>
[[gnu::always_inline]] inline T atomicAnd(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return static_cast<T>(x & value); });
}
template <class T>
[[gnu::always_inline]] inline T atomicOr(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return static_cast<T>(x | value); });
}
template <class T>
[[gnu::always_inline]] inline T atomicXor(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return static_cast<T>(x ^ value); });
}
template <class T>
[[gnu::always_inline]] inline T atomicExch(T* address, simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T) { return value; });
}
template <class T>
[[gnu::always_inline]] inline T atomicCAS(T* address, simt::same_t<T> expected,
                                          simt::same_t<T> value) {
  return simt::atomic_update(address, [=](T x) { return x == expected ? value : x; });
}
// Counts up to `last` and starts again at 0; counts down from `last`.
[[gnu::always_inline]] inline unsigned atomicInc(unsigned* address, unsigned last) {
  return simt::atomic_update(address, [=](unsigned x) { return x >= last ? 0u : x + 1; });
}
[[gnu::always_inline]] inline unsigned atomicDec(unsigned* address, unsigned last) {
  return simt::atomic_update(address,
                             [=](unsigned x) { return x == 0 || x > last ? last : x - 1; });
}
