#pragma once

// What asynchronous instructions share: when their work counts as done, and how their reads are
// checked. The async proxy (TMA, wgmma) sees what ordinary code wrote only after a
// fence.proxy.async of the writer, or of the reader once it knows of the write.

#include "tests/simt/core.h"

namespace simt {

// Where and when a thread started asynchronous work. What the work does later counts as done then,
// and who waits for it learns what the thread knew then.
struct Origin {
  Thread* by;
  uint32_t clock;
  VectorClock knows;
  uintptr_t code;
};
Origin origin_here(uintptr_t code);
template <class Do>
void as_of(const Origin& origin, Do act) {
  const uint32_t now = origin.by->clocks.own;
  origin.by->clocks.own = origin.clock;
  act();
  origin.by->clocks.own = now;
}
void join(VectorClock& to, const VectorClock& from);

// A read of `by` through the async proxy. Bytes that nothing wrote are an error, or come along, as
// in a box that is larger than what the kernel needs.
enum class Unwritten { reported, carried };
void observe_async_read(Thread& by, const void* address, size_t bytes, Unwritten unwritten,
                        uintptr_t code);

inline uintptr_t return_address(void* address) { return reinterpret_cast<uintptr_t>(address); }

}  // namespace simt
