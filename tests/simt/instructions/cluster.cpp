// Clusters, the election of a lane, and the registers of a warpgroup.

#include "tests/simt/core.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

// On a GPU the lane is always the same one, but which is not said: random schedules vary it.
void elect(std::span<Thread* const> threads, std::span<void* const> arguments) {
  int lanes = 0;
  while (lanes < kWarpThreads && threads[lanes]) ++lanes;
  const bool random = options().schedule == Schedule::random;
  const int elected =
      random ? static_cast<int>(options().seed * 7 % static_cast<uint64_t>(lanes)) : 0;
  for (int lane = 0; lane < lanes; ++lane) *static_cast<bool*>(arguments[lane]) = lane == elected;
}
const Collective kElect{"elect_one", elect};

void check_registers(std::span<Thread* const>, std::span<void* const> arguments) {
  for (const void* argument : arguments)
    if (*static_cast<const int*>(argument) != *static_cast<const int*>(arguments[0]))
      fail("setmaxnreg: the threads of the warpgroup ask for different numbers of registers");
}
const Collective kSetRegisters{"setmaxnreg", check_registers};

}  // namespace

void set_registers(int registers, Where where) {
  warpgroup_collective(kSetRegisters, &registers, where);
}

void* map_shared(void* shared, uint32_t rank, Where where) {
  if (rank >= cluster->blocks.size())
    fail("map_shared%s: rank %u of a cluster of %zu", at(where).c_str(), rank,
         cluster->blocks.size());
  return shared_pointer_at_rank(shared, static_cast<int>(rank));
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

uint32_t cluster_rank() { return static_cast<uint32_t>(current->block->rank); }
uint32_t cluster_size() { return static_cast<uint32_t>(cluster->blocks.size()); }
void cluster_arrive(Where where) { simt::cluster_arrive(where); }
void cluster_wait(Where where) { simt::cluster_wait(where); }

bool elect_one(Where where) {
  bool elected = false;
  warp_collective(kElect, ~0u, &elected, where);
  return elected;
}

}  // namespace moat::kernels::ptx
