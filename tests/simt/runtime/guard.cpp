#include "tests/simt/runtime/guard.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "tests/simt/core.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"

extern "C" const char __executable_start, end;

namespace simt {

namespace {

// What a launch touches is opened piece by piece, by its faults, and closed again after it: to
// protect all of the heap for each launch would cost more than most launches.
constexpr size_t kPieceBytes = 16 * kPageBytes;

int users = 0;          // of device memory right now
size_t closed_end = 0;  // the heap is closed up to here, from kHeapStart, but for these pieces
std::vector<size_t> opened;
std::mutex opening;  // threads of a library on the host fault side by side
bool is_handed_on = false;
struct sigaction previous;

void protect(size_t start, size_t stop, int protection) {
  if (start < stop &&
      mprotect(reinterpret_cast<void*>(space.arena + start), stop - start, protection))
    abort();
}

void open_piece(size_t offset) {
  const std::lock_guard lock(opening);
  const size_t start = offset / kPieceBytes * kPieceBytes;
  protect(start, std::min(start + kPieceBytes, closed_end), PROT_READ | PROT_WRITE);
  opened.push_back(start);
}

void close_pieces() {
  std::sort(opened.begin(), opened.end());
  for (size_t i = 0, last = 0; i < opened.size(); i = last) {
    for (last = i + 1; last < opened.size() && opened[last] <= opened[last - 1] + kPieceBytes;)
      ++last;
    protect(opened[i], std::min(opened[last - 1] + kPieceBytes, closed_end), PROT_NONE);
  }
  opened.clear();
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

// The fault is a kernel's, a copy's or a library's: opens what it touches. Or it is the host's:
// says so, then lets the instruction fault again for whoever was there before, so that Catch2 names
// the test case, or the program ends.
void on_fault(int, siginfo_t* information, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(information->si_addr);
  const bool is_closed = address >= space.arena + kHeapStart && address < space.arena + closed_end;
  if (is_closed && users > 0) return open_piece(address - space.arena);
  // Once only: Catch2 puts this handler back before it raises the signal again.
  if (is_handed_on) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  is_handed_on = true;
  sigaction(SIGSEGV, &previous, nullptr);
  if (!is_closed) return;
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
  if (users++ == 0 && closed_end > 0) watch_faults();
}

DeviceAccess::~DeviceAccess() {
  if (--users > 0) return;
  close_pieces();
  if (options().guard_device_memory) {
    const size_t start = std::max(closed_end, kHeapStart), stop = heap_end();
    if (start >= stop) return;
    protect(start, stop, PROT_NONE);  // the heap has grown
    closed_end = stop;
    watch_faults();
  } else if (closed_end > 0) {
    protect(kHeapStart, closed_end, PROT_READ | PROT_WRITE);
    closed_end = 0;
  }
}

}  // namespace simt
