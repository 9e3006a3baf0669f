#pragma once

// Inside the interpreter: what its parts share, and what an emulated instruction is built on
// (instructions/). A launch runs block by block; the threads of a block are fibers of one
// operating-system thread, so that nothing here needs a lock.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tests/simt/cuda.h"
#include "tests/simt/options.h"
#include "tests/simt/runtime/clocks.h"
#include "tests/simt/runtime/fiber.h"
#include "tests/simt/runtime/report.h"

namespace simt {

inline constexpr int kWarpThreads = 32, kWarpgroupThreads = 128;

// State that an instruction keeps per thread or per block; made on first use, gone with its owner.
struct Extension {
  virtual ~Extension() = default;
  virtual void at_exit() {}  // the thread has ended, or the last thread of the block has
};

enum class State : uint8_t { ready, waiting, exited };

struct Thread {
  Fiber fiber;
  uint3 position{};  // threadIdx
  int index = 0;     // linear, within the block; indexes clocks
  State state = State::ready;
  Knowledge clocks;
  // What a waiting thread waits for, for reports and wakers.
  const char* waits_in = "";
  Where waits_at;
  uint32_t waits_mask = 0;
  const void* waits_on = nullptr;
  std::unordered_map<const void*, std::unique_ptr<Extension>> extensions;

  int lane() const { return index % kWarpThreads; }
  int warp() const { return index / kWarpThreads; }
  int warpgroup() const { return index / kWarpgroupThreads; }
  Epoch born = 0;  // its generation and index, with clock 0
  Epoch epoch() const { return born | clocks.own; }
};

// Code that all threads of a set run together: the last to arrive runs it for all.
struct Collective {
  const char* name;
  // One entry per lane (32) or per thread of the warpgroup (128); null outside the mask.
  void (*run)(std::span<Thread* const> threads, std::span<void* const> arguments);
  bool orders_memory = false;
};
struct PendingCollective {
  const Collective* collective = nullptr;
  uint32_t mask = 0, arrived = 0;
  int count = 0;
  Where where;
  std::vector<Thread*> threads;
  std::vector<void*> arguments;
};

struct Barrier {
  int arrived = 0, expected = 0, votes = 0, result = 0;
  std::vector<Thread*> waiting;
};

// Asynchronous work, e.g. a bulk copy: lands when the scheduler says, in any order.
using Landing = std::function<void()>;

struct Block {
  uint32_t generation = 0;  // distinguishes the clocks of different blocks
  uint3 index{};
  int live = 0;  // threads that have not exited
  std::vector<Thread> threads;
  std::deque<Thread*> ready;
  std::vector<Landing> landings;
  Barrier barriers[16];
  std::vector<std::vector<PendingCollective>> warps;  // per warp, those that wait for lanes
  std::vector<PendingCollective> warpgroups;
  char* dynamic = nullptr;     // dynamic shared memory
  std::vector<uint32_t> base;  // clocks that every thread knows since the last full barrier
  GridOrder order;             // what the block has learned from others through atomics
  std::unordered_map<const void*, std::unique_ptr<Extension>> extensions;
  int last_warp = -1;
  bool stopped = false;  // a failure that cannot be continued from
};

struct Launch {
  KernelCall call;
  dim3 grid, block;
  size_t shared_bytes;
  int threads_per_block() const { return static_cast<int>(block.x * block.y * block.z); }
};

extern Thread* current;  // null outside a kernel
extern Block* block;     // the one that runs
extern const Launch* running;
extern std::mt19937_64 generator;

// What `thread` knows of the clock of the block's thread `index`.
inline uint32_t known_clock(const Thread& thread, int index) {
  if (index == thread.index) return thread.clocks.own;
  if (thread.clocks.detail == Knowledge::Detail::all) return thread.clocks.all[index];
  if (thread.clocks.detail == Knowledge::Detail::warp)
    if (const int lane = index - (thread.index - thread.lane()); lane >= 0 && lane < kWarpThreads)
      return thread.clocks.warp[lane];
  return block->base[index];
}

// The state of type T that the instruction family of T keeps for its owner (Thread or Block).
template <class T, class Owner>
T& extension(Owner& owner) {
  static const char key = 0;
  std::unique_ptr<Extension>& slot = owner.extensions[&key];
  if (!slot) slot = std::make_unique<T>();
  return static_cast<T&>(*slot);
}

// Scheduling. sleep_on returns when another thread or a landing has woken `key`: wait in a loop.
void sleep_on(const void* key, const char* what, Where where);
void wake_all(const void* key);
void suspend(const char* what, Where where);
void wake(Thread& thread);
void maybe_preempt();  // lets another thread run, with the probability of Options::preempt
void run_later(Landing landing);

// All lanes of `mask`, or all 128 threads of the warpgroup, call this with the same collective.
void warp_collective(const Collective& collective, uint32_t mask, void* argument, Where where);
void warpgroup_collective(const Collective& collective, void* argument, Where where);

// Shared memory as 32-bit addresses. Dynamic memory starts at 1024, static at kStaticShared.
inline constexpr uint32_t kDynamicShared = 1024, kStaticShared = 0x80000;
inline constexpr size_t kMostShared = 232448, kSharedWithoutAsking = 48 * 1024;
uint32_t shared_address(const void* pointer);
void* shared_pointer(uint32_t address);

// What an access does, for `observe`. Async accesses are those of the async proxy (TMA, wgmma).
enum class Access : uint8_t { read, write, atomic, async_read, async_write };

// Checks and records an access of `thread` as if it were in its code at `pc` (a return address, or
// 0 with `where` in the text): bounds, initialisation, races, proxies.
void observe(Thread& thread, const void* address, size_t bytes, Access access, uintptr_t pc);
// The destination of asynchronous work: any access before `land` is reported. The bytes are
// poisoned with 0xff.
void take_off(Thread& by, void* address, size_t bytes, uintptr_t pc);
// The work has written the bytes: as a write of `by` through the given proxy.
void land(Thread& by, void* address, size_t bytes, Access access, uintptr_t pc);
// False in the ASan build, whose kernels are not instrumented: clocks and shadow are not kept.
extern const bool observing;

}  // namespace simt
