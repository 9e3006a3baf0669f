#pragma once

// The check of one access of a device thread against the shadow. Inline, because it runs for every
// load and store of a kernel.

#include "tests/simt/core.h"
#include "tests/simt/runtime/shadow.h"

namespace simt {

// What the accesses of the running block are compared with.
struct Observer {
  uint32_t generation = 0, first_generation = 0;  // of the block, of the launch
  Epoch launched = 0;                             // what is earlier came before the launch
};
extern Observer observer;

// The rare cases, which report.
void observe_elsewhere(Thread& thread, uintptr_t address, size_t bytes, Access access,
                       uintptr_t code);
void report_access(Thread& thread, const Cell& cell, uintptr_t address, size_t bytes, Access access,
                   uintptr_t code, bool is_shared);
bool acquired_from_elsewhere(const Thread& thread, Epoch epoch);

constexpr bool writes(Access access) {
  return access == Access::write || access == Access::atomic || access == Access::async_write;
}

// Does the moment happen before what `thread` does now?
inline bool is_ordered(const Thread& thread, Epoch epoch, bool is_shared) {
  const uint32_t generation = generation_of(epoch);
  if (generation < observer.first_generation) return true;
  if (generation == observer.generation) {
    const int other = thread_of(epoch);
    return other == thread.index || known_clock(thread, other) >= clock_of(epoch) ||
           acquired_from_elsewhere(thread, epoch);
  }
  // Shared memory of an earlier block is not the same memory.
  return is_shared || acquired_from_elsewhere(thread, epoch);
}

inline bool is_set(const Cell& cell, bool is_shared) {
  return is_shared ? generation_of(cell.write) == observer.generation : (cell.flags & kSet) != 0;
}

[[gnu::always_inline]] inline void observe_read(Thread& thread, Cell& cell, uintptr_t address,
                                                size_t bytes, Epoch now, uintptr_t code,
                                                bool is_shared) {
  const bool is_known = cell.read[0] == now || cell.read[1] == now || cell.write == now;
  if (is_known && !(cell.flags & kInFlight)) return;
  if (!is_set(cell, is_shared) || (cell.flags & kInFlight) ||
      !is_ordered(thread, cell.write, is_shared)) [[unlikely]]
    report_access(thread, cell, address, bytes, Access::read, code, is_shared);
  const int slot = is_ordered(thread, cell.read[0], is_shared) ? 0 : 1;
  cell.read[slot] = now;
  cell.read_code[slot] = short_code(code);
}

[[gnu::always_inline]] inline void observe_write(Thread& thread, Cell& cell, uintptr_t address,
                                                 size_t bytes, Epoch now, uintptr_t code,
                                                 bool is_shared) {
  const bool is_old = cell.write < observer.launched && cell.read[0] < observer.launched &&
                      cell.read[1] < observer.launched && !(cell.flags & kInFlight);
  if (!is_old && ((cell.flags & kInFlight) || !is_ordered(thread, cell.write, is_shared) ||
                  !is_ordered(thread, cell.read[0], is_shared) ||
                  !is_ordered(thread, cell.read[1], is_shared))) [[unlikely]]
    report_access(thread, cell, address, bytes, Access::write, code, is_shared);
  cell.write = now;
  cell.write_code = short_code(code);
  cell.flags = kSet;
}

// The usual case without a call: one cell of device memory that nobody else has accessed in this
// launch. False where the full check must look.
template <bool kWrite>
[[gnu::always_inline]] inline bool observe_alone(const Thread& thread, uintptr_t address,
                                                 size_t bytes, uintptr_t code) {
  size_t in_page = 0;
  const Page* page = page_of(address, &in_page);
  if (!page || page->space != Space::device || !page->cells || bytes != size_t{1} << page->shift ||
      (address & (bytes - 1)) || in_page < page->begin || in_page + bytes > page->end)
    return false;
  Cell& cell = page->cells[in_page >> page->shift];
  const Epoch now = thread.epoch();
  const auto is_free = [&](Epoch epoch) { return epoch < observer.launched || epoch == now; };
  if (!is_free(cell.write) || !is_free(cell.read[0]) || (cell.flags & kInFlight)) return false;
  if constexpr (kWrite) {
    if (!is_free(cell.read[1])) return false;
    cell.write = now;
    cell.write_code = short_code(code);
    cell.flags = kSet;
  } else {
    if (!(cell.flags & kSet)) return false;
    cell.read[0] = now;
    cell.read_code[0] = short_code(code);
  }
  return true;
}

// The kernel's arguments are read by every thread, and have no shadow.
inline bool is_argument(uintptr_t address, size_t bytes) {
  const auto start = reinterpret_cast<uintptr_t>(running->call.arguments);
  return address >= start && address + bytes <= start + running->call.argument_bytes;
}

// A plain load or store of `bytes` bytes that are not the thread's own stack.
template <bool kWrite>
[[gnu::noinline]] void observe_plain(Thread& thread, uintptr_t address, size_t bytes,
                                     uintptr_t code) {
  constexpr Access kAccess = kWrite ? Access::write : Access::read;
  size_t in_page = 0;
  Page* page = page_of(address, &in_page);
  if constexpr (!kWrite)
    if (!page && is_argument(address, bytes)) return;
  if (!page || in_page < page->begin || in_page + bytes > page->end) [[unlikely]]
    return observe_elsewhere(thread, address, bytes, kAccess, code);
  if (!page->cells || ((address | bytes) & ((size_t{1} << page->shift) - 1))) [[unlikely]]
    refine(*page, address, bytes);
  const Epoch now = thread.epoch();
  const bool is_shared = page->space == Space::shared;
  Cell* cell = page->cells + (in_page >> page->shift);
  Cell* const last = page->cells + ((in_page + bytes - 1) >> page->shift);
  for (; cell <= last; ++cell) {
    if constexpr (kWrite)
      observe_write(thread, *cell, address, bytes, now, code, is_shared);
    else
      observe_read(thread, *cell, address, bytes, now, code, is_shared);
  }
}

}  // namespace simt
