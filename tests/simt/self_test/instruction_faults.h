#pragma once

#include "tests/simt/self_test/cases.h"

namespace simt::self_test {

const std::vector<Fault>& copy_faults();
const std::vector<Fault>& barrier_faults();
const std::vector<Fault>& tma_faults();
const std::vector<Fault>& wgmma_faults();
// Seen where asynchronous work is as late as can be: not under random schedules.
const std::vector<Fault>& late_faults();

// A kernel that reads accumulators before wgmma_wait sees NaNs, and the sums after it.
bool sums_are_poisoned_until_waited_for();

}  // namespace simt::self_test
