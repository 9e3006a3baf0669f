#pragma once

// Tokens side by side in the lanes of vectors, so that the gate's loops run over tokens: a row of
// lanes is one cache line and holds one value of each token. Lanes never meet.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace moat::kernels {

template <class T>
inline constexpr int kLanes = 64 / sizeof(T);
template <class T>
using Lanes = std::array<T, kLanes<T>>;

// f(lane) for the lanes of Lanes<T>.
template <class T, class F>
void each_lane(F&& f) {
#pragma omp simd
  for (int l = 0; l < kLanes<T>; ++l) f(l);
}

// Whether x > y in any lane.
template <class T>
bool any_above(const Lanes<T>& x, const Lanes<T>& y) {
  T any = 0;
#pragma omp simd reduction(| : any)
  for (int l = 0; l < kLanes<T>; ++l) any |= x[l] > y[l] ? 1 : 0;
  return any != 0;
}

// A score as an integer of the same order, and back; -0 becomes 0. kNone is below every score.
template <class C>
using Key = std::conditional_t<sizeof(C) == 4, int32_t, int64_t>;
template <class K>
inline constexpr K kNone = std::numeric_limits<K>::min();
template <class K>
constexpr K mirror_negative(K bits) {
  return bits < 0 ? bits ^ std::numeric_limits<K>::max() : bits;
}
template <class C>
constexpr Key<C> key_of(C score) {
  return mirror_negative(std::bit_cast<Key<C>>(score + C(0)));
}
template <class C>
constexpr C score_of(Key<C> key) {
  return std::bit_cast<C>(mirror_negative(key));
}

// Each lane's best keys in falling order and where they were found: slot 1 the best, slot 0 a key
// above all.
template <class K>
struct Best {
  Lanes<K>*keys, *indices;
};

// The `count` best of n keys by insertion, ties to the lowest index. kNone is never chosen: it may
// be what the last slots hold in the end, without an index.
template <class K>
void select_best(const Lanes<K>* keys, int n, int count, const Best<K>& best) {
  best.keys[0].fill(std::numeric_limits<K>::max());
  for (int slot = 1; slot <= count; ++slot) best.keys[slot].fill(kNone<K>);
  for (int i = 0; i < n; ++i) {
    const Lanes<K>& key = keys[i];
    if (!any_above(key, best.keys[count])) continue;
    for (int slot = std::min(i + 1, count); slot > 0; --slot) {
      Lanes<K>*held = best.keys + slot, *index = best.indices + slot;
      if (slot % 16 == 0 && !any_above(key, *held)) break;  // nothing moves from here on
      each_lane<K>([&](int l) {
        const K x = key[l], own = held[0][l], above = held[-1][l], index_above = index[-1][l];
        const K mine = x > own ? K(i) : index[0][l];
        index[0][l] = x > above ? index_above : mine;
        held[0][l] = std::max(own, std::min(above, x));
      });
    }
  }
}

}  // namespace moat::kernels
