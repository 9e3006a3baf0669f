#include "kernels/basic/finite.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 65536, kBlock = 1024;

// A value is not finite when all bits of its exponent are set: integer tests vectorise.
template <class T>
struct Exponent;
template <>
struct Exponent<double> {
  using Bits = uint64_t;
  static constexpr Bits mask = 0x7ff0000000000000u;
};
template <>
struct Exponent<float> {
  using Bits = uint32_t;
  static constexpr Bits mask = 0x7f800000u;
};
template <>
struct Exponent<Bf16> {
  using Bits = uint16_t;
  static constexpr Bits mask = 0x7f80u;
};

template <class T>
bool is_wild(T x) {
  const auto bits = std::bit_cast<typename Exponent<T>::Bits>(x);
  return (bits & Exponent<T>::mask) == Exponent<T>::mask;
}

}  // namespace

Status finite(Cpu, const Finite& a) {
  if (a.count < 0) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const T* x = static_cast<const T*>(a.x);
    std::atomic<int64_t> total = 0, first = a.count;
    parallel_for(a.count, kGrain, [&](int64_t from, int64_t to) {
      int64_t found = 0, earliest = a.count;
      for (int64_t block = from; block < to; block += kBlock) {
        const int64_t end = std::min(block + kBlock, to);
        typename Exponent<T>::Bits in_block = 0;  // as wide as T, so that the loop vectorises
        for (int64_t i = block; i < end; ++i)
          in_block = static_cast<decltype(in_block)>(in_block + is_wild(x[i]));
        if (found == 0 && in_block > 0) earliest = std::find_if(x + block, x + end, is_wild<T>) - x;
        found += static_cast<int64_t>(in_block);
      }
      total += found;
      for (int64_t seen = first; earliest < seen && !first.compare_exchange_weak(seen, earliest);) {
      }
    });
    a.found[0] = total;
    a.found[1] = first;
    return Status::ok;
  });
}

}  // namespace moat::kernels
