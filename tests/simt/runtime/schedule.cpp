// Which thread runs next, and the threads that wait.

#include <cmath>
#include <map>

#include "tests/simt/core.h"
#include "tests/simt/runtime/preempt.h"
#include "tests/simt/runtime/schedule.h"
#include "tests/simt/runtime/shadow.h"

namespace simt {

Thread* current = nullptr;
Cluster* cluster = nullptr;
const Launch* running = nullptr;
std::mt19937_64 generator;
int64_t accesses_to_preemption = 0;

namespace {

int block_in_place = 0;  // whose static shared memory the segment holds

size_t pick() {
  const size_t count = cluster->ready.size();
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
    if (cluster->ready[at]->id / kWarpThreads == cluster->last_warp) return at;
  }
  return start;
}

Thread& take() {
  const size_t at = pick();
  Thread* thread = cluster->ready[at];
  if (at == 0) {
    cluster->ready.pop_front();
  } else {
    cluster->ready[at] = cluster->ready.back();
    cluster->ready.pop_back();
  }
  cluster->last_warp = thread->id / kWarpThreads;
  return *thread;
}

void put_in_place(Block& block) {
  if (block.rank == block_in_place || space.static_bytes == 0) return;
  auto* segment = reinterpret_cast<char*>(space.static_shared);
  Block& other = cluster->blocks[block_in_place];
  other.static_memory.assign(segment, segment + space.static_bytes);
  std::copy(block.static_memory.begin(), block.static_memory.end(), segment);
  put_static_in_place(block.rank);
  block_in_place = block.rank;
}

void land_one() {
  const size_t at = generator() % cluster->landings.size();
  const Landing landing = std::move(cluster->landings[at]);
  cluster->landings.erase(cluster->landings.begin() + static_cast<ptrdiff_t>(at));
  landing();
}

// As late as possible, except that random schedules let work land at any moment, and that a thread
// which spins must see it in the end.
bool is_time_to_land(uint64_t switches) {
  if (cluster->landings.empty()) return false;
  if (cluster->ready.empty()) return true;
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
  for (const Thread& thread : cluster->threads) groups[waits(thread)].push_back(&thread);
  std::string text;
  for (const auto& [what, threads] : groups) {
    text += "\n    " + std::to_string(threads.size()) + " threads " + what + ": ";
    for (size_t i = 0; i < threads.size() && i < 4; ++i)
      text += (i ? ", " : "") + std::to_string(threads[i]->index);
    if (threads.size() > 4) text += " …";
    if (cluster->blocks.size() > 1)
      text += " (the first of rank " + std::to_string(threads[0]->block->rank) + ")";
  }
  return text;
}

void run_threads() {
  block_in_place = 0;
  put_static_in_place(0);
  uint64_t switches = 0;
  for (Thread& thread : cluster->threads) cluster->ready.push_back(&thread);
  size_t live = cluster->threads.size();
  while (live > 0) {
    if (is_time_to_land(switches)) {
      ++switches;
      land_one();
      continue;
    }
    if (cluster->ready.empty()) {
      const uint3 b = cluster->blocks[0].index;
      fail("deadlock: no thread of block (%u,%u,%u) can go on%s", b.x, b.y, b.z,
           who_waits().c_str());
    }
    Thread& thread = take();
    put_in_place(*thread.block);
    ++switches;
    current = &thread;
    resume(thread.fiber);
    current = nullptr;
    if (cluster->stopped) break;
    if (thread.state == State::exited) --live;
  }
  while (!cluster->stopped && !cluster->landings.empty()) land_one();
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
  cluster->ready.push_back(&thread);
}

void sleep_on(const void* key, const char* what, Where where) {
  current->waits_on = key;
  suspend(what, where);
}

void wake_all(const void* key) {
  for (Thread& thread : cluster->threads)
    if (thread.state == State::waiting && thread.waits_on == key) wake(thread);
}

void run_later(Landing landing) { cluster->landings.push_back(std::move(landing)); }

void yield() {
  if (!current) return;
  wake(*current);
  if (options().schedule == Schedule::lifo) {  // or the thread that spins would be next for ever
    cluster->ready.pop_back();
    cluster->ready.push_front(current);
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
