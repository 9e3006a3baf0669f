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
Words with_tests(Words out) {
  for (uint32_t complete : {0u, 1u, 1u, 1u}) out.push_back(complete);
  return out;
}
Words plus_one(Words words) {
  for (uint32_t& word : words) ++word;
  return words;
}
// Blocks of a cluster of two: rank, size, and the other's words backwards.
Words exchanged(const Words& in) {
  Words out;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    out.push_back(rank);
    out.push_back(2);
    for (size_t i = 0; i < kLanes; ++i) out.push_back(in[(1 - rank) * kLanes + kLanes - 1 - i]);
  }
  return out;
}
Words swapped(const Words& in) {
  Words out(in.begin() + kLanes, in.end());
  out.insert(out.end(), in.begin(), in.begin() + kLanes);
  return out;
}

}  // namespace

std::vector<InstructionCase> barrier_cases() {
  const Words three = noise(3 * kLanes, 31), four = noise(4 * kLanes, 32), one = noise(kLanes, 33),
              threads = noise(384, 34);
  return {
      {"bar_sync bar_arrive", run_named_barriers, three, reversed(three)},
      {"mbarrier_init fence_mbarrier_init mbarrier_arrive mbarrier_test mbarrier_wait "
       "mbarrier_inval",
       run_mbarrier_phases, four, with_tests(reversed(four)), 9},
      {"mbarrier_expect_tx mbarrier_arrive_expect_tx bulk_load", run_mbarrier_expect_tx, one,
       reversed(one), 9},
      {"elect_one", run_elect, {}, {1, 1, 1, 1}, 9},
      {"setmaxnreg_dec setmaxnreg_inc", run_setmaxnreg, threads, plus_one(threads), 9},
  };
}

std::vector<InstructionCase> cluster_cases() {
  const Words in = noise(2 * kLanes, 35);
  return {
      {"cluster_rank cluster_size cluster_arrive cluster_wait mbarrier_arrive_cluster "
       "mbarrier_wait_cluster map_shared",
       run_cluster_arrive, in, exchanged(in), 9},
      {"cluster_arrive cluster_wait map_shared", run_cluster_shared, in, swapped(in), 9},
  };
}

}  // namespace moat::tests
