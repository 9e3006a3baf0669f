#pragma once

#include <cstddef>

namespace simt {

// A stack with its own flow of control. Fibers switch only to and from the scheduler.
struct Fiber {
  void* stack_pointer = nullptr;  // while it does not run; on other machines than x86-64 a context
  char *low = nullptr, *high = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

inline constexpr size_t kStackBytes = 256 * 1024;

// Gives the fiber the pool's stack number `slot`, to start in `entry` when first resumed.
void prepare(Fiber& fiber, int slot, void (*entry)());
void resume(Fiber& fiber);               // from the scheduler; returns when the fiber pauses
void pause(Fiber& fiber);                // from the fiber to the scheduler
[[noreturn]] void finish(Fiber& fiber);  // for the last time
void started();                          // the first thing that an entry function calls

// The slot of the stack that an address lies in, or -1.
int stack_slot(const void* address);

}  // namespace simt
