#pragma once

// Vector clocks: which accesses of other threads happen before what a thread does next.

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace simt {

struct Thread;
enum class Scope;

// A moment in the life of a device thread: generation (its block, 24 bits), thread in the block
// (14) and the thread's clock (26). 0 is no moment.
using Epoch = uint64_t;
constexpr Epoch make_epoch(uint32_t generation, int thread, uint32_t clock) {
  return uint64_t{generation} << 40 | uint64_t(thread) << 26 | clock;
}
constexpr uint32_t generation_of(Epoch epoch) { return static_cast<uint32_t>(epoch >> 40); }
constexpr int thread_of(Epoch epoch) { return static_cast<int>(epoch >> 26 & 0x3fff); }
constexpr uint32_t clock_of(Epoch epoch) { return static_cast<uint32_t>(epoch & 0x3ffffff); }

using VectorClock = std::vector<uint32_t>;  // by thread; missing entries are 0

// What a thread knows of the others' clocks. Most threads know what their block learned at the last
// full barrier, some more about their own warp, few more than that: only those pay for it.
struct Knowledge {
  enum class Detail : uint8_t { base, warp, all };
  uint32_t own = 1;
  Detail detail = Detail::base;
  uint32_t warp[32];
  VectorClock all;
};

void synchronize(std::span<Thread* const> threads);  // each knows afterwards what any knew
void synchronize_block();
// What `thread` did so far is known to who acquires from `to` later.
void release(Thread& thread, VectorClock& to);
void acquire(Thread& thread, const VectorClock& from);

// Order between blocks of a launch, and within one, through atomics and fences: an atomic after
// a fence releases at its address, a fence after an atomic at the address acquires.
struct Released {
  uint32_t generation;
  Scope scope;
  std::shared_ptr<const VectorClock> clock;
};
struct Seen {  // `by` at its clock saw the first `count` releases at an address
  const std::vector<Released>* releases;
  size_t count;
  int by;
  uint32_t clock;
};
struct GridOrder {
  std::vector<Seen> observed, acquired;
  std::unordered_map<int, Released> fenced;  // by thread: what its next atomics release
};
void forget_releases();  // at the start of a launch
void order_fence(Thread& thread, Scope scope);
void order_atomic(Thread& thread, const void* address);
bool order_acquired(const Thread& thread, Epoch epoch);

}  // namespace simt
