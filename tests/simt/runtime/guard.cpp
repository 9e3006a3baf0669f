#include "tests/simt/runtime/guard.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"

extern "C" const char __executable_start, end;

namespace simt {

namespace {

int users = 0;          // of device memory right now
size_t closed_end = 0;  // the heap is closed up to here, from kHeapStart
struct sigaction previous;

void protect(size_t stop, int protection) {
  if (mprotect(reinterpret_cast<void*>(space.arena + kHeapStart), stop - kHeapStart, protection))
    abort();
}

// Where in the program the host was, through the functions that called it.
std::string program_place(const ucontext_t* context) {
  constexpr int kMost = 24;
  void* frames[kMost];
  const int count = backtrace(frames, kMost);
  const auto is_program = [](uintptr_t code) {
    return code >= reinterpret_cast<uintptr_t>(&__executable_start) &&
           code < reinterpret_cast<uintptr_t>(&end);
  };
  uintptr_t faulting = 0;
#if defined(__x86_64__)
  faulting = static_cast<uintptr_t>(context->uc_mcontext.gregs[REG_RIP]);
#endif
  std::string text;
  bool is_below = faulting == 0;  // the first frames are this handler's
  int shown = 0;
  for (int i = 0; i < count && shown < 3; ++i) {
    const auto code = reinterpret_cast<uintptr_t>(frames[i]);
    is_below = is_below || code == faulting;
    if (!is_below || !is_program(code)) continue;
    // The interrupted instruction itself, or a call before its return address.
    text += (shown++ ? ", called" : "") + at(code == faulting ? code + 1 : code);
  }
  if (text.empty() && is_program(faulting)) text = at(faulting + 1);
  return text;
}

// Says what happened, then lets the instruction fault again for whoever was there before: Catch2
// names the test case, or the program ends.
void on_fault(int, siginfo_t* information, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(information->si_addr);
  sigaction(SIGSEGV, &previous, nullptr);
  if (closed_end == 0 || address < space.arena + kHeapStart || address >= space.arena + closed_end)
    return;
  char where[32];
  snprintf(where, sizeof(where), "0x%zx", static_cast<size_t>(address));
  const std::string text =
      look_up_places("host code touches device memory at " + std::string(where) + " (" +
                     describe_device(address) + ")" +
                     program_place(static_cast<const ucontext_t*>(context))) +
      "\n";
  fflush(nullptr);
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) _exit(1);
}

// Test frameworks set handlers of their own, so that this is done each time.
void watch_faults() {
  static const int loaded = [] {
    void* frame;
    return backtrace(&frame, 1);  // the first call loads a library
  }();
  static_cast<void>(loaded);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  struct sigaction before;
  sigaction(SIGSEGV, &action, &before);
  if (!(before.sa_flags & SA_SIGINFO) || before.sa_sigaction != on_fault) previous = before;
}

}  // namespace

DeviceAccess::DeviceAccess() {
  if (users++ > 0 || closed_end == 0) return;
  protect(closed_end, PROT_READ | PROT_WRITE);
  closed_end = 0;
}

DeviceAccess::~DeviceAccess() {
  if (--users > 0 || !options().guard_device_memory || heap_end() == 0) return;
  closed_end = heap_end();
  protect(closed_end, PROT_NONE);
  watch_faults();
}

}  // namespace simt
