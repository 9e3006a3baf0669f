#pragma once

// Warp-wide functions: shuffles, votes and matches.

#include <cstring>
#include <type_traits>

#include "tests/simt/device/language.h"

namespace simt {

enum class Shuffle { from, up, down, butterfly };

// `value` is replaced by the value of the lane that it comes from.
void warp_shuffle(Shuffle shuffle, uint32_t mask, void* value, size_t bytes, int lane, int width,
                  Where where);
uint32_t warp_ballot(uint32_t mask, int predicate, Where where);
uint32_t warp_match_any(uint32_t mask, uint64_t value, Where where);
void warp_sync(uint32_t mask, Where where);

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
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value, simt::Where where = simt::Where::here()) {
  return simt::warp_match_any(mask, simt::bits_of(value), where);
}
