// Barriers of a block (__syncthreads, bar.sync), and fences.

#include <cstring>

#include "tests/simt/core.h"

namespace simt {

namespace {

void require_same_place(const Thread& other, Where where) {
  if (other.waits_at.line == where.line && !std::strcmp(other.waits_at.file, where.file)) return;
  fail("divergent barrier: thread %d waits%s while thread %d arrives%s", other.index,
       at(other.waits_at).c_str(), current->index, at(where).c_str());
}

// Threads that leave a barrier together go on in the schedule's order, not the last one first.
void leave(Barrier& barrier) {
  std::vector<Thread*> waiting = std::move(barrier.waiting);
  barrier.waiting.clear();
  barrier.arrived = 0;
  for (Thread* thread : waiting)
    if (thread != current) wake(*thread);
  const bool random =
      options().schedule == Schedule::random || options().schedule == Schedule::sticky;
  if (random) yield();
}

// Returns true when the barrier has opened by this arrival.
bool arrive(int id, int threads, Where where) {
  if (id < 0 || id > 15) fail("barrier %d%s: there are 0 to 15", id, at(where).c_str());
  Barrier& barrier = block->barriers[id];
  const bool whole = threads == kWholeBlock;
  const int all = static_cast<int>(block->threads.size());
  const int expected = whole ? all : threads;
  if (!whole && (threads <= 0 || threads % kWarpThreads != 0))
    fail("barrier %d%s: %d threads are no multiple of a warp", id, at(where).c_str(), threads);
  if (barrier.arrived > 0 && barrier.expected != expected)
    fail("divergent barrier %d: %d threads expected, and %d%s", id, barrier.expected, expected,
         at(where).c_str());
  if (whole && !barrier.waiting.empty()) require_same_place(*barrier.waiting[0], where);
  if (whole && block->live < all)
    fail("exit before a barrier: %d threads of the block exited before __syncthreads%s",
         all - block->live, at(where).c_str());
  barrier.expected = expected;
  ++barrier.arrived;
  barrier.waiting.push_back(current);
  if (barrier.arrived < expected) {
    suspend(whole ? "__syncthreads" : "bar.sync", where);
    return false;
  }
  return true;
}

void open(int id, int threads) {
  Barrier& barrier = block->barriers[id];
  if (observing) {
    if (threads == kWholeBlock)
      synchronize_block();
    else
      synchronize(barrier.waiting);
  }
  leave(barrier);
}

}  // namespace

void block_sync(int id, int threads, Where where) {
  maybe_preempt();
  if (arrive(id, threads, where)) open(id, threads);
}

int block_vote(Vote vote, int predicate, Where where) {
  maybe_preempt();
  Barrier& barrier = block->barriers[0];
  if (barrier.arrived == 0) barrier.votes = 0;
  barrier.votes += predicate != 0;
  if (arrive(0, kWholeBlock, where)) {
    barrier.result = barrier.votes;
    open(0, kWholeBlock);
  }
  switch (vote) {
    case Vote::count:
      return barrier.result;
    case Vote::all:
      return barrier.result == static_cast<int>(block->threads.size());
    case Vote::any:
      break;
  }
  return barrier.result != 0;
}

void thread_fence(Scope scope) {
  if (current && observing) order_fence(*current, scope);
}

}  // namespace simt
