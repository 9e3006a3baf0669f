#pragma once

// Warp-wide functions: shuffles, votes, matches and integer reductions.

#include <cstring>
#include <type_traits>

#include "tests/simt/device/language.h"

namespace simt {

enum class Shuffle { from, up, down, butterfly };
enum class Reduce { add, min, max, all_bits, any_bit, odd_bits };

// `value` is replaced by the value of the lane that it comes from.
void warp_shuffle(Shuffle shuffle, uint32_t mask, void* value, size_t bytes, int lane, int width,
                  Where where);
uint32_t warp_ballot(uint32_t mask, int predicate, Where where);
uint32_t warp_match_any(uint32_t mask, uint64_t value, Where where);
uint32_t warp_match_all(uint32_t mask, uint64_t value, int* predicate, Where where);
int64_t warp_reduce_integer(Reduce reduce, uint32_t mask, int64_t value, Where where);
void warp_sync(uint32_t mask, Where where);
uint32_t active_mask();

template <class T>
T shuffle(Shuffle kind, uint32_t mask, T value, int lane, int width, Where where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16);
  warp_shuffle(kind, mask, &value, sizeof(T), lane, width, where);
  return value;
}
template <class T>
uint64_t bits_of(T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T reduce(Reduce kind, uint32_t mask, T value, Where where) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4);
  return static_cast<T>(warp_reduce_integer(kind, mask, value, where));
}

}  // namespace simt

template <class T>
T __shfl_sync(uint32_t mask, T value, int lane, int width = 32,
              simt::Where where = simt::Where::here()) {
  return simt::shuffle(simt::Shuffle::from, mask, value, lane, width, where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                 simt::Where where = simt::Where::here()) {
  return simt::shuffle(simt::Shuffle::up, mask, value, static_cast<int>(delta), width, where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                   simt::Where where = simt::Where::here()) {
  return simt::shuffle(simt::Shuffle::down, mask, value, static_cast<int>(delta), width, where);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32,
                  simt::Where where = simt::Where::here()) {
  return simt::shuffle(simt::Shuffle::butterfly, mask, value, lanes, width, where);
}
inline void __syncwarp(uint32_t mask = 0xffffffffu, simt::Where where = simt::Where::here()) {
  simt::warp_sync(mask, where);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate,
                              simt::Where where = simt::Where::here()) {
  return simt::warp_ballot(mask, predicate, where);
}
inline int __any_sync(uint32_t mask, int predicate, simt::Where where = simt::Where::here()) {
  return simt::warp_ballot(mask, predicate, where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, simt::Where where = simt::Where::here()) {
  return simt::warp_ballot(mask, !predicate, where) == 0;
}
inline uint32_t __activemask() { return simt::active_mask(); }
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value, simt::Where where = simt::Where::here()) {
  return simt::warp_match_any(mask, simt::bits_of(value), where);
}
template <class T>
uint32_t __match_all_sync(uint32_t mask, T value, int* predicate,
                          simt::Where where = simt::Where::here()) {
  return simt::warp_match_all(mask, simt::bits_of(value), predicate, where);
}
template <class T>
T __reduce_add_sync(uint32_t mask, T value, simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::add, mask, value, where);
}
template <class T>
T __reduce_min_sync(uint32_t mask, T value, simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::min, mask, value, where);
}
template <class T>
T __reduce_max_sync(uint32_t mask, T value, simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::max, mask, value, where);
}
inline uint32_t __reduce_and_sync(uint32_t mask, uint32_t value,
                                  simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::all_bits, mask, value, where);
}
inline uint32_t __reduce_or_sync(uint32_t mask, uint32_t value,
                                 simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::any_bit, mask, value, where);
}
inline uint32_t __reduce_xor_sync(uint32_t mask, uint32_t value,
                                  simt::Where where = simt::Where::here()) {
  return simt::reduce(simt::Reduce::odd_bits, mask, value, where);
}
