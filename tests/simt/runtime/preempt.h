#pragma once

#include <cstdint>

namespace simt {

// Counts down over the accesses of all threads; at 0 the running thread is interrupted.
extern int64_t accesses_to_preemption;
void preempt();
void draw_preemption();

}  // namespace simt
