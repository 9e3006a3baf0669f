#include "tests/simt/runtime/clocks.h"

#include <algorithm>
#include <cstring>

#include "tests/simt/core.h"

namespace simt {

namespace {

std::unordered_map<const void*, std::vector<Released>> releases;

void raise(VectorClock& to, int index, uint32_t clock) { to[index] = std::max(to[index], clock); }

// max of what `thread` knows into `to`, of the block's size
void merge(const Thread& thread, VectorClock& to) {
  const Knowledge& clocks = thread.clocks;
  const VectorClock& known = clocks.detail == Knowledge::Detail::all ? clocks.all : block->base;
  for (size_t i = 0; i < known.size(); ++i) to[i] = std::max(to[i], known[i]);
  if (clocks.detail == Knowledge::Detail::warp) {
    const int first = thread.index - thread.lane();
    for (int lane = 0; lane < kWarpThreads && first + lane < static_cast<int>(to.size()); ++lane)
      raise(to, first + lane, clocks.warp[lane]);
  }
  raise(to, thread.index, clocks.own);
}

void make_all(Thread& thread) {
  if (thread.clocks.detail == Knowledge::Detail::all) return;
  VectorClock all(block->threads.size());
  merge(thread, all);
  thread.clocks.all = std::move(all);
  thread.clocks.detail = Knowledge::Detail::all;
}

// Threads of one warp that know nothing special of other warps exchange 32 clocks.
void synchronize_warp(std::span<Thread* const> threads) {
  uint32_t joined[kWarpThreads] = {};
  const int first = threads[0]->index - threads[0]->lane();
  const VectorClock& base = block->base;
  for (int lane = 0; lane < kWarpThreads && first + lane < static_cast<int>(base.size()); ++lane)
    joined[lane] = base[first + lane];
  for (const Thread* thread : threads)
    if (thread->clocks.detail == Knowledge::Detail::warp)
      for (int lane = 0; lane < kWarpThreads; ++lane)
        joined[lane] = std::max(joined[lane], thread->clocks.warp[lane]);
  for (const Thread* thread : threads) joined[thread->lane()] = thread->clocks.own;
  for (Thread* thread : threads) {
    std::memcpy(thread->clocks.warp, joined, sizeof(joined));
    thread->clocks.detail = Knowledge::Detail::warp;
    ++thread->clocks.own;
  }
}

}  // namespace

void synchronize(std::span<Thread* const> threads) {
  if (threads.empty()) return;
  const bool within_warp = std::all_of(threads.begin(), threads.end(), [&](const Thread* thread) {
    return thread->warp() == threads[0]->warp() && thread->clocks.detail != Knowledge::Detail::all;
  });
  if (within_warp) return synchronize_warp(threads);
  VectorClock joined(block->threads.size());
  for (const Thread* thread : threads) merge(*thread, joined);
  for (Thread* thread : threads) {
    thread->clocks.all = joined;
    thread->clocks.detail = Knowledge::Detail::all;
    ++thread->clocks.own;
  }
}

void synchronize_block() {
  for (Thread& thread : block->threads) {
    block->base[thread.index] = thread.clocks.own++;
    thread.clocks.detail = Knowledge::Detail::base;
  }
}

void release(Thread& thread, VectorClock& to) {
  to.resize(block->threads.size());
  merge(thread, to);
  ++thread.clocks.own;
}

void acquire(Thread& thread, const VectorClock& from) {
  make_all(thread);
  for (int i = 0; i < static_cast<int>(from.size()); ++i)
    if (i != thread.index) raise(thread.clocks.all, i, from[i]);
}

void forget_releases() { releases.clear(); }

void order_fence(Thread& thread, Scope scope) {
  GridOrder& order = block->order;
  for (size_t i = 0; i < order.observed.size(); ++i) {
    const Seen seen = order.observed[i];
    if (known_clock(thread, seen.by) < seen.clock) continue;
    const bool again =
        std::any_of(order.acquired.begin(), order.acquired.end(), [&](const Seen& other) {
          return other.releases == seen.releases && other.count >= seen.count &&
                 known_clock(thread, other.by) >= other.clock;
        });
    if (!again)
      order.acquired.push_back({seen.releases, seen.count, thread.index, thread.clocks.own});
  }
  auto clock = std::make_shared<VectorClock>();
  release(thread, *clock);
  order.fenced[thread.index] = {block->generation, scope, std::move(clock)};
}

void order_atomic(Thread& thread, const void* address) {
  GridOrder& order = block->order;
  const auto fenced = order.fenced.find(thread.index);
  const auto found = releases.find(address);
  if (found != releases.end() && !found->second.empty()) {
    order.observed.push_back(
        {&found->second, found->second.size(), thread.index, thread.clocks.own});
    ++thread.clocks.own;
  }
  if (fenced == order.fenced.end()) return;
  std::vector<Released>& here = releases[address];
  if (here.empty() || here.back().clock != fenced->second.clock) here.push_back(fenced->second);
}

bool order_acquired(const Thread& thread, Epoch epoch) {
  const uint32_t generation = generation_of(epoch);
  const bool own = generation == block->generation;
  for (const Seen& seen : block->order.acquired) {
    if (known_clock(thread, seen.by) < seen.clock) continue;
    for (size_t i = 0; i < seen.count; ++i) {
      const Released& released = (*seen.releases)[i];
      if (released.generation == generation && (own || released.scope >= Scope::device) &&
          (*released.clock)[thread_of(epoch)] >= clock_of(epoch))
        return true;
    }
  }
  return false;
}

}  // namespace simt
