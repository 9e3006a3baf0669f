// Which thread runs next, and the threads that wait.

#include <cmath>
#include <map>

#include "tests/simt/core.h"
#include "tests/simt/runtime/preempt.h"
#include "tests/simt/runtime/schedule.h"
#include "tests/simt/runtime/shadow.h"

namespace simt {

Thread* current = nullptr;
Block* block = nullptr;
const Launch* running = nullptr;
std::mt19937_64 generator;
int64_t accesses_to_preemption = 0;

namespace {

size_t pick() {
  const size_t count = block->ready.size();
  switch (options().schedule) {
    case Schedule::fifo:
      return 0;
    case Schedule::lifo:
      return count - 1;
    case Schedule::random:
      return generator() % count;
    case Schedule::sticky:
      break;
  }
  const size_t start = generator() % count;
  if (generator() % 16 == 0) return start;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = (start + i) % count;
    if (block->ready[at]->warp() == block->last_warp) return at;
  }
  return start;
}

Thread& take() {
  const size_t at = pick();
  Thread* thread = block->ready[at];
  if (at == 0) {
    block->ready.pop_front();
  } else {
    block->ready[at] = block->ready.back();
    block->ready.pop_back();
  }
  block->last_warp = thread->warp();
  return *thread;
}

void land_one() {
  const size_t at = generator() % block->landings.size();
  const Landing landing = std::move(block->landings[at]);
  block->landings.erase(block->landings.begin() + static_cast<ptrdiff_t>(at));
  landing();
}

// As late as possible, except that random schedules let work land at any moment, and that a thread
// which spins must see it in the end.
bool is_time_to_land(uint64_t switches) {
  if (block->landings.empty()) return false;
  if (block->ready.empty()) return true;
  if (options().schedule == Schedule::random) return generator() % 8 == 0;
  return switches % 1024 == 1023;
}

std::string waits(const Thread& thread) {
  if (thread.state == State::exited) return "exited";
  std::string text = std::string("waiting in ") + thread.waits_in;
  char mask[32];
  snprintf(mask, sizeof(mask), " of lanes %08x", thread.waits_mask);
  if (thread.waits_mask) text += mask;
  return text + at(thread.waits_at);
}

}  // namespace

std::string who_waits() {
  std::map<std::string, std::vector<const Thread*>> groups;
  for (const Thread& thread : block->threads) groups[waits(thread)].push_back(&thread);
  std::string text;
  for (const auto& [what, threads] : groups) {
    text += "\n    " + std::to_string(threads.size()) + " threads " + what + ": ";
    for (size_t i = 0; i < threads.size() && i < 4; ++i)
      text += (i ? ", " : "") + std::to_string(threads[i]->index);
    if (threads.size() > 4) text += " …";
  }
  return text;
}

void run_threads() {
  uint64_t switches = 0;
  for (Thread& thread : block->threads) block->ready.push_back(&thread);
  size_t live = block->threads.size();
  while (live > 0) {
    if (is_time_to_land(switches)) {
      ++switches;
      land_one();
      continue;
    }
    if (block->ready.empty()) {
      const uint3 b = block->index;
      fail("deadlock: no thread of block (%u,%u,%u) can go on%s", b.x, b.y, b.z,
           who_waits().c_str());
    }
    Thread& thread = take();
    ++switches;
    current = &thread;
    resume(thread.fiber);
    current = nullptr;
    if (block->stopped) break;
    if (thread.state == State::exited) --live;
  }
  while (!block->stopped && !block->landings.empty()) land_one();
  statistics().switches += switches;
}

void suspend(const char* what, Where where) {
  current->state = State::waiting;
  current->waits_in = what;
  current->waits_at = where;
  pause(current->fiber);
}

void wake(Thread& thread) {
  thread.state = State::ready;
  thread.waits_on = nullptr;
  thread.waits_mask = 0;
  block->ready.push_back(&thread);
}

void sleep_on(const void* key, const char* what, Where where) {
  current->waits_on = key;
  suspend(what, where);
}

void wake_all(const void* key) {
  for (Thread& thread : block->threads)
    if (thread.state == State::waiting && thread.waits_on == key) wake(thread);
}

void run_later(Landing landing) { block->landings.push_back(std::move(landing)); }

void yield() {
  if (!current) return;
  wake(*current);
  if (options().schedule == Schedule::lifo) {  // or the thread that spins would be next for ever
    block->ready.pop_back();
    block->ready.push_front(current);
  }
  pause(current->fiber);
}

void draw_preemption() {
  const double p = options().preempt;
  accesses_to_preemption = INT64_MAX;
  if (p <= 0) return;
  const double u = (static_cast<double>(generator() >> 11) + 0.5) * 0x1p-53;
  accesses_to_preemption = 1 + static_cast<int64_t>(p >= 1 ? 0 : std::log(u) / std::log1p(-p));
}

void preempt() {
  draw_preemption();
  yield();
}

void maybe_preempt() {
  if (current && --accesses_to_preemption <= 0) preempt();
}

}  // namespace simt
