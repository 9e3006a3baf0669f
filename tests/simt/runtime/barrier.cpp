// Barriers of a block (__syncthreads, bar.sync, bar.arrive) and of a cluster, and fences.

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
void leave(Barrier& barrier, bool waits) {
  std::vector<Thread*> waiting = std::move(barrier.waiting);
  barrier.waiting.clear();
  barrier.arrivals.clear();
  barrier.arrived = 0;
  for (Thread* thread : waiting)
    if (thread != current) wake(*thread);
  const bool random =
      options().schedule == Schedule::random || options().schedule == Schedule::sticky;
  if (random && waits) yield();
}

// Returns true when the barrier has opened by this arrival.
bool arrive(Block& block, int id, int threads, bool waits, Where where) {
  if (id < 0 || id > 15) fail("barrier %d%s: there are 0 to 15", id, at(where).c_str());
  Barrier& barrier = block.barriers[id];
  const bool whole = threads == kWholeBlock;
  const int all = static_cast<int>(block.threads.size());
  const int expected = whole ? all : threads;
  if (!whole && (threads <= 0 || threads % kWarpThreads != 0))
    fail("barrier %d%s: %d threads are no multiple of a warp", id, at(where).c_str(), threads);
  if (barrier.arrived > 0 && barrier.expected != expected)
    fail("divergent barrier %d: %d threads expected, and %d%s", id, barrier.expected, expected,
         at(where).c_str());
  if (whole && !barrier.waiting.empty()) require_same_place(*barrier.waiting[0], where);
  if (whole && block.live < all)
    fail("exit before a barrier: %d threads of the block exited before __syncthreads%s",
         all - block.live, at(where).c_str());
  barrier.expected = expected;
  ++barrier.arrived;
  barrier.arrivals.push_back(current);
  if (waits) barrier.waiting.push_back(current);
  if (barrier.arrived < expected) {
    if (waits) suspend(whole ? "__syncthreads" : "bar.sync", where);
    return false;
  }
  return true;
}

void open(Block& block, int id, int threads, bool waits) {
  Barrier& barrier = block.barriers[id];
  if (observing) {
    if (threads == kWholeBlock)
      synchronize_block(block);
    else
      synchronize(barrier.arrivals);
  }
  leave(barrier, waits);
}

}  // namespace

void block_sync(int id, int threads, Where where) {
  maybe_preempt();
  if (arrive(*current->block, id, threads, true, where)) open(*current->block, id, threads, true);
}

void block_arrive(int id, int threads, Where where) {
  maybe_preempt();
  if (arrive(*current->block, id, threads, false, where)) open(*current->block, id, threads, false);
}

int block_vote(Vote vote, int predicate, Where where) {
  maybe_preempt();
  Block& block = *current->block;
  Barrier& barrier = block.barriers[0];
  if (barrier.arrived == 0) barrier.votes = 0;
  barrier.votes += predicate != 0;
  if (arrive(block, 0, kWholeBlock, true, where)) {
    barrier.result = barrier.votes;
    open(block, 0, kWholeBlock, true);
  }
  switch (vote) {
    case Vote::count:
      return barrier.result;
    case Vote::all:
      return barrier.result == static_cast<int>(block.threads.size());
    case Vote::any:
      break;
  }
  return barrier.result != 0;
}

// A thread arrives once and waits once per phase; `waiting` holds those that wait already.
void cluster_arrive(Where where) {
  maybe_preempt();
  Barrier& barrier = cluster->barrier;
  for (const Thread* thread : barrier.arrivals)
    if (thread == current)
      fail("barrier.cluster.arrive%s: the thread has arrived already and not waited",
           at(where).c_str());
  barrier.arrivals.push_back(current);
  if (++barrier.arrived < static_cast<int>(cluster->threads.size())) return;
  if (observing) {
    VectorClock joined;
    for (Thread* thread : barrier.arrivals) release(*thread, joined);
    for (Block& block : cluster->blocks) {
      block.base = joined;
      for (Thread& thread : block.threads) thread.clocks.detail = Knowledge::Detail::base;
    }
  }
  ++barrier.result;  // the phase
  barrier.arrivals.clear();
  barrier.arrived = 0;
  wake_all(&barrier);
}

void cluster_wait(Where where) {
  Barrier& barrier = cluster->barrier;
  for (bool arrived = true; arrived;) {
    arrived = false;
    for (const Thread* thread : barrier.arrivals) arrived = arrived || thread == current;
    if (arrived) sleep_on(&barrier, "barrier.cluster.wait", where);
  }
}

void thread_fence(Scope scope) {
  if (current && observing) order_fence(*current, scope);
}

}  // namespace simt
