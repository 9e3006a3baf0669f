#pragma once

// mbarriers. Their state is kept beside the block; the 64-bit word in shared memory holds a picture
// of it, so that code which overwrites a barrier is noticed.

#include "tests/simt/core.h"

namespace simt {

// A barrier that asynchronous work will report to: found when the work starts, in the block of the
// cluster that the pointer belongs to.
struct BarrierTarget {
  Block* block;
  uint64_t* barrier;
};
BarrierTarget async_target(uint64_t* barrier, Block& block, const char* instruction, Where where,
                           uintptr_t code);
// The work arrives `arrivals` times, or brings bytes; who waits learns what is in `knows`.
void complete(const BarrierTarget& target, uint32_t arrivals, uint32_t bytes,
              const VectorClock& knows);

// The barriers that the current thread initialised are ready for asynchronous work.
void fence_initialized_barriers();

}  // namespace simt
