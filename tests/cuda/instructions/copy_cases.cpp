#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

constexpr size_t kLanes = 32;

// Lane l keeps the first l % (bytes + 1) of its bytes; its neighbour's are looked at.
void expect_filled(const Words& in, size_t bytes, Words& out, size_t first) {
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const size_t other = (lane + 1) % kLanes;
    for (size_t i = 0; i < bytes; ++i)
      set_byte(out, first + lane * bytes + i,
               i < other % (bytes + 1) ? byte_at(in, other * bytes + i) : uint8_t{0});
  }
}

Words filled(const Words& in) {
  Words out(kLanes * 28 / 4);
  expect_filled(in, 4, out, 0);
  expect_filled(in, 8, out, kLanes * 4);
  expect_filled(in, 16, out, kLanes * 12);
  return out;
}
Words filled_16(const Words& in) {
  Words out(kLanes * 4);
  expect_filled(in, 16, out, 0);
  return out;
}

}  // namespace

std::vector<InstructionCase> copy_cases() {
  const Words bytes = noise(kLanes * 4, 1), words = noise(3 * kLanes, 2);
  return {
      {"cp_async cp_async_commit cp_async_wait", run_cp_async, bytes, filled(bytes)},
      {"cp_async_l1", run_cp_async_l1, bytes, filled_16(bytes)},
      {"cp_async_commit cp_async_wait", run_cp_async_groups, words, words},
      {"prefetch_l2", run_prefetch, bytes, bytes},
  };
}

}  // namespace moat::tests
