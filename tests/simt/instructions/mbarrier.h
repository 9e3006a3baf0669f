#pragma once

// mbarriers. Their state is kept beside the block; the 64-bit word in shared memory holds a picture
// of it, so that code which overwrites a barrier is noticed.

#include "tests/simt/core.h"

namespace simt {

// The barrier is one that asynchronous work, which starts now, can report to.
void require_ready(uint64_t* barrier, const char* instruction, Where where, uintptr_t code);
// The work brings bytes; who waits learns what is in `knows`.
void complete(uint64_t* barrier, uint32_t bytes, const VectorClock& knows);

// The barriers that the current thread initialised are ready for asynchronous work.
void fence_initialized_barriers();

}  // namespace simt
