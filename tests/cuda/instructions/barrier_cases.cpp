#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

constexpr size_t kLanes = 32;

// Each 32 words backwards, as lane l reads what lane 31 - l wrote.
Words reversed(const Words& in) {
  Words out(in.size());
  for (size_t i = 0; i < in.size(); ++i)
    out[i] = in[i / kLanes * kLanes + (kLanes - 1 - i % kLanes)];
  return out;
}
Words plus_one(Words words) {
  for (uint32_t& word : words) ++word;
  return words;
}

}  // namespace

std::vector<InstructionCase> barrier_cases() {
  const Words three = noise(3 * kLanes, 31), four = noise(4 * kLanes, 32), threads = noise(384, 34);
  return {
      {"bar_sync", run_named_barriers, three, reversed(three)},
      {"mbarrier_init fence_mbarrier_init mbarrier_arrive mbarrier_wait", run_mbarrier_phases, four,
       reversed(four), 9},
      {"setmaxnreg_dec setmaxnreg_inc", run_setmaxnreg, threads, plus_one(threads), 9},
  };
}

}  // namespace moat::tests
