#include "tests/simt/runtime/observe.h"

#include <algorithm>
#include <cstring>

extern "C" const char __executable_start, end;

namespace simt {

Observer observer;

namespace {

const char* verb(Access access) {
  switch (access) {
    case Access::read:
      return "reads";
    case Access::write:
      return "writes";
    case Access::atomic:
      return "updates (atomically)";
    case Access::async_read:
      return "reads (asynchronously)";
    case Access::async_write:
      return "writes (asynchronously)";
  }
  return "";
}

std::string thread_of_epoch(Epoch epoch) {
  if (generation_of(epoch) == observer.generation &&
      thread_of(epoch) < static_cast<int>(block->threads.size()))
    return thread_name(block->threads[thread_of(epoch)]);
  return "thread " + std::to_string(thread_of(epoch)) + " of an earlier block of the launch";
}

uint64_t key_of(int kind, uintptr_t code, uint16_t other) {
  return (uint64_t{short_code(code)} << 16 | other) * 8 + static_cast<uint64_t>(kind) + 1;
}

void report_race(const Thread& thread, Epoch other, uint16_t other_code, const char* other_verb,
                 uintptr_t address, size_t bytes, Access access, uintptr_t code) {
  report(nullptr, key_of(0, code, other_code),
         "data race: %s %s %zu bytes%s, and %s %s%s with nothing that orders the two (%s)",
         thread_name(thread).c_str(), verb(access), bytes, at(code).c_str(),
         thread_of_epoch(other).c_str(), other_verb, at(long_code(other_code)).c_str(),
         describe(address).c_str());
}

// The cells of a range that has been checked to be accessible, one after another.
template <class Visit>
void for_cells(uintptr_t address, size_t bytes, Visit visit) {
  while (bytes > 0) {
    size_t in_page = 0;
    Page* page = page_of(address, &in_page);
    const size_t here = std::min(bytes, kPageBytes - in_page);
    refine(*page, address, here);
    const bool is_shared = page->space == Space::shared;
    for (size_t at = in_page; at < in_page + here; at += size_t{1} << page->shift)
      visit(page->cells[at >> page->shift], is_shared);
    address += here;
    bytes -= here;
  }
}

// Reports, and does not return, where the range is no memory of the kernel. False for memory that
// may be read but has no shadow: the program's constants and the kernel's arguments.
bool check_range(const Thread& thread, uintptr_t address, size_t bytes, Access access,
                 uintptr_t code) {
  const auto fits = [&](uintptr_t start, uintptr_t stop) {
    return address >= start && address + bytes <= stop;
  };
  if (!writes(access)) {
    if (is_argument(address, bytes)) return false;
    if (fits(reinterpret_cast<uintptr_t>(&__executable_start), reinterpret_cast<uintptr_t>(&end)))
      return false;
  }
  for (size_t done = 0; done < bytes;) {
    size_t in_page = 0;
    const Page* page = page_of(address + done, &in_page);
    if (!page || in_page < page->begin || in_page >= page->end)
      fail("out of bounds: %s %s %zu bytes%s: %s", thread_name(thread).c_str(), verb(access), bytes,
           at(code).c_str(), describe(address + done).c_str());
    done += page->end - in_page;
  }
  return true;
}

}  // namespace

bool acquired_from_elsewhere(const Thread& thread, Epoch epoch) {
  return !block->order.acquired.empty() && order_acquired(thread, epoch);
}

void report_access(Thread& thread, const Cell& cell, uintptr_t address, size_t bytes, Access access,
                   uintptr_t code, bool is_shared) {
  const bool stale = is_shared && generation_of(cell.write) != observer.generation;
  if (!stale && (cell.flags & kInFlight)) {
    report(nullptr, key_of(1, code, cell.write_code),
           "in flight: %s %s %zu bytes%s that asynchronous work is still to write (%s); issued by "
           "%s%s",
           thread_name(thread).c_str(), verb(access), bytes, at(code).c_str(),
           describe(address).c_str(), thread_of_epoch(cell.write).c_str(),
           at(long_code(cell.write_code)).c_str());
    return;
  }
  if (!writes(access) && !is_set(cell, is_shared)) {
    report(nullptr, key_of(2, code, 0), "uninitialised: %s %s %zu bytes%s that nothing wrote (%s)",
           thread_name(thread).c_str(), verb(access), bytes, at(code).c_str(),
           describe(address).c_str());
    return;
  }
  if (!is_ordered(thread, cell.write, is_shared))
    return report_race(thread, cell.write, cell.write_code, "wrote", address, bytes, access, code);
  for (const int slot : {0, 1})
    if (writes(access) && !is_ordered(thread, cell.read[slot], is_shared))
      return report_race(thread, cell.read[slot], cell.read_code[slot], "read", address, bytes,
                         access, code);
}

void observe_elsewhere(Thread& thread, uintptr_t address, size_t bytes, Access access,
                       uintptr_t code) {
  observe(thread, reinterpret_cast<void*>(address), bytes, access, code);
}

void observe(Thread& thread, const void* pointer, size_t bytes, Access access, uintptr_t code) {
  if (!observing || bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const char* byte = static_cast<const char*>(pointer);
  if (byte >= thread.fiber.low && byte < thread.fiber.high) return;
  if (!check_range(thread, address, bytes, access, code)) return;
  const Epoch now = thread.epoch();
  for_cells(address, bytes, [&](Cell& cell, bool is_shared) {
    const bool stale = is_shared && generation_of(cell.write) != observer.generation;
    const uint16_t flags = stale ? 0 : cell.flags;
    // Atomics do not race with one another.
    const bool both_atomic = access == Access::atomic && (flags & kAtomic);
    if ((flags & kInFlight) || (!writes(access) && !is_set(cell, is_shared)) ||
        (access == Access::atomic && !is_set(cell, is_shared)) ||
        (!both_atomic && !is_ordered(thread, cell.write, is_shared)) ||
        (writes(access) && !both_atomic &&
         (!is_ordered(thread, cell.read[0], is_shared) ||
          !is_ordered(thread, cell.read[1], is_shared)))) {
      if (access == Access::atomic && !(flags & kInFlight) && !is_set(cell, is_shared))
        report_access(thread, cell, address, bytes, Access::read, code, is_shared);
      else
        report_access(thread, cell, address, bytes, access, code, is_shared);
    }
    if (writes(access)) {
      cell.write = now;
      cell.write_code = short_code(code);
      cell.flags = kSet;
      if (access == Access::atomic) cell.flags |= kAtomic;
      if (access == Access::async_write) cell.flags |= kAsync;
    } else {
      const int slot = is_ordered(thread, cell.read[0], is_shared) ? 0 : 1;
      cell.read[slot] = now;
      cell.read_code[slot] = short_code(code);
    }
  });
}

void take_off(Thread& by, void* pointer, size_t bytes, uintptr_t code) {
  if (observing) {
    observe(by, pointer, bytes, Access::write, code);
    for_cells(reinterpret_cast<uintptr_t>(pointer), bytes,
              [](Cell& cell, bool) { cell.flags |= kInFlight; });
  }
  std::memset(pointer, 0xff, bytes);
}

void land(Thread& by, void* pointer, size_t bytes, Access access, uintptr_t code) {
  if (!observing) return;
  for_cells(reinterpret_cast<uintptr_t>(pointer), bytes,
            [](Cell& cell, bool) { cell.flags &= static_cast<uint16_t>(~kInFlight); });
  observe(by, pointer, bytes, access, code);
}

}  // namespace simt
