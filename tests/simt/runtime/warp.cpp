// What the functions of device/warp.h compute.

#include <array>
#include <cstring>

#include "tests/simt/core.h"

namespace simt {

namespace {

using Threads = std::span<Thread* const>;
using Arguments = std::span<void* const>;

template <class T>
T& as(void* argument) {
  return *static_cast<T*>(argument);
}

struct ShuffleArgument {
  Shuffle shuffle;
  void* value;
  size_t bytes;
  int lane, width;
};

int source_lane(const ShuffleArgument& a, int lane) {
  const int first = lane & ~(a.width - 1), last = first + a.width - 1;
  switch (a.shuffle) {
    case Shuffle::from:
      return first + (a.lane & (a.width - 1));
    case Shuffle::up:
      return lane - a.lane < first ? lane : lane - a.lane;
    case Shuffle::down:
      return lane + a.lane > last ? lane : lane + a.lane;
    case Shuffle::butterfly:
      return (lane ^ a.lane) > last ? lane : lane ^ a.lane;
  }
  return lane;
}

void run_shuffle(Threads threads, Arguments arguments) {
  std::array<std::array<char, 16>, kWarpThreads> values;
  for (int lane = 0; lane < kWarpThreads; ++lane)
    if (threads[lane]) {
      const auto& a = as<ShuffleArgument>(arguments[lane]);
      std::memcpy(values[lane].data(), a.value, a.bytes);
    }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (!threads[lane]) continue;
    const auto& a = as<ShuffleArgument>(arguments[lane]);
    const int source = source_lane(a, lane);
    const Thread& reader = *threads[lane];
    if (reader.index - lane + source >= static_cast<int>(block->threads.size())) {
      std::memset(a.value, 0xff, a.bytes);  // no such lane in a ragged warp: any value is legal
      continue;
    }
    if (!threads[source])
      fail("wrong mask: lane %d shuffles from lane %d, which is not in the mask", lane, source);
    std::memcpy(a.value, values[source].data(), a.bytes);
  }
}
constexpr Collective kShuffle{"__shfl_sync", run_shuffle};

void run_ballot(Threads threads, Arguments arguments) {
  uint32_t votes = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane)
    if (threads[lane] && as<uint32_t>(arguments[lane])) votes |= 1u << lane;
  for (int lane = 0; lane < kWarpThreads; ++lane)
    if (threads[lane]) as<uint32_t>(arguments[lane]) = votes;
}
constexpr Collective kBallot{"__ballot_sync", run_ballot};

void run_match(Threads threads, Arguments arguments) {
  std::array<uint64_t, kWarpThreads> equal{};
  for (int lane = 0; lane < kWarpThreads; ++lane)
    for (int other = 0; other < kWarpThreads; ++other)
      if (threads[lane] && threads[other] &&
          as<uint64_t>(arguments[lane]) == as<uint64_t>(arguments[other]))
        equal[lane] |= uint64_t{1} << other;
  for (int lane = 0; lane < kWarpThreads; ++lane)
    if (threads[lane]) as<uint64_t>(arguments[lane]) = equal[lane];
}
constexpr Collective kMatchAny{"__match_any_sync", run_match};

constexpr Collective kSyncWarp{"__syncwarp", nullptr, true};

}  // namespace

void warp_shuffle(Shuffle shuffle, uint32_t mask, void* value, size_t bytes, int lane, int width,
                  Where where) {
  if (width < 1 || width > kWarpThreads || (width & (width - 1)))
    fail("__shfl_sync%s: width %d is no power of two up to 32", at(where).c_str(), width);
  ShuffleArgument argument{shuffle, value, bytes, lane, width};
  warp_collective(kShuffle, mask, &argument, where);
}

uint32_t warp_ballot(uint32_t mask, int predicate, Where where) {
  uint32_t votes = predicate != 0;
  warp_collective(kBallot, mask, &votes, where);
  return votes;
}

uint32_t warp_match_any(uint32_t mask, uint64_t value, Where where) {
  warp_collective(kMatchAny, mask, &value, where);
  return static_cast<uint32_t>(value);
}

void warp_sync(uint32_t mask, Where where) { warp_collective(kSyncWarp, mask, nullptr, where); }

}  // namespace simt
