// Functions that the lanes of a warp, or the threads of a warpgroup, run together.

#include <cstring>

#include "tests/simt/core.h"

namespace simt {

namespace {

void start(PendingCollective& pending, const Collective& collective, uint32_t mask, size_t threads,
           Where where) {
  pending.collective = &collective;
  pending.mask = mask;
  pending.arrived = 0;
  pending.count = 0;
  pending.where = where;
  pending.threads.assign(threads, nullptr);
  pending.arguments.assign(threads, nullptr);
}

void require_same(const PendingCollective& pending, const Collective& collective, Where where) {
  // Lanes may meet in __syncwarp from different places.
  const bool same = pending.collective == &collective &&
                    (collective.orders_memory || pending.where.line == where.line);
  if (!same)
    fail("divergent warp: %s%s while other lanes wait in %s%s", collective.name, at(where).c_str(),
         pending.collective->name, at(pending.where).c_str());
}

void run(PendingCollective& pending) {
  const PendingCollective all = std::move(pending);
  pending = PendingCollective{};
  if (all.collective->run) all.collective->run(all.threads, all.arguments);
  if (observing && all.collective->orders_memory) {
    std::vector<Thread*> members;
    for (Thread* thread : all.threads)
      if (thread) members.push_back(thread);
    synchronize(members);
  }
  for (Thread* thread : all.threads)
    if (thread && thread != current) wake(*thread);
}

}  // namespace

void warp_collective(const Collective& collective, uint32_t mask, void* argument, Where where) {
  maybe_preempt();
  const int lane = current->lane(), first = current->index - lane;
  const int lanes = std::min<int>(kWarpThreads, static_cast<int>(block->threads.size()) - first);
  const uint32_t existing = lanes == kWarpThreads ? ~0u : (1u << lanes) - 1;
  if (mask == ~0u) mask = existing;
  if (!(mask >> lane & 1))
    fail("wrong mask: lane %d calls %s%s with mask %08x, which leaves it out", lane,
         collective.name, at(where).c_str(), mask);
  if (mask & ~existing)
    fail("wrong mask: %s%s with mask %08x, but the warp has %d lanes", collective.name,
         at(where).c_str(), mask, lanes);
  auto& waiting = block->warps[static_cast<size_t>(current->warp())];
  PendingCollective* pending = nullptr;
  for (PendingCollective& other : waiting) {
    if (other.mask == mask) pending = &other;
    if (other.mask != mask && (other.mask & mask))
      fail("wrong mask: %s%s with mask %08x while other lanes of it wait in %s%s with mask %08x",
           collective.name, at(where).c_str(), mask, other.collective->name,
           at(other.where).c_str(), other.mask);
  }
  if (!pending) {
    for (int other = 0; other < lanes; ++other)
      if ((mask >> other & 1) && block->threads[first + other].state == State::exited)
        fail("wrong mask: %s%s with mask %08x, but lane %d has exited", collective.name,
             at(where).c_str(), mask, other);
    for (PendingCollective& other : waiting)
      if (other.mask == 0) pending = &other;
    if (!pending) pending = &waiting.emplace_back();
    start(*pending, collective, mask, kWarpThreads, where);
  }
  require_same(*pending, collective, where);
  pending->arrived |= 1u << lane;
  pending->threads[lane] = current;
  pending->arguments[lane] = argument;
  if (pending->arrived == mask) return run(*pending);
  current->waits_mask = mask;
  suspend(collective.name, where);
}

void warpgroup_collective(const Collective& collective, void* argument, Where where) {
  maybe_preempt();
  const int group = current->warpgroup(), within = current->index % kWarpgroupThreads;
  if (static_cast<int>(block->threads.size()) < (group + 1) * kWarpgroupThreads)
    fail("%s%s needs a whole warpgroup of 128 threads", collective.name, at(where).c_str());
  PendingCollective& pending = block->warpgroups[static_cast<size_t>(group)];
  if (!pending.collective) start(pending, collective, 0, kWarpgroupThreads, where);
  require_same(pending, collective, where);
  pending.threads[within] = current;
  pending.arguments[within] = argument;
  if (++pending.count == kWarpgroupThreads) return run(pending);
  suspend(collective.name, where);
}

}  // namespace simt
