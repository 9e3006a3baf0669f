#pragma once

#include "bench/kernel_bench.h"
#include "bench/row.h"

namespace moat::bench {

// The rows of a benchmark in turn, round after round, until the time that they have in all is up. A
// row that cannot run says why.
class Turns {
 public:
  Turns(Workbench& bench, const KernelBenchOptions& options, std::vector<KernelMeasurement>& rows,
        const BeforeRow& before_row);

  // Measures the next row; `ready` makes what it runs, and may throw.
  void next(const std::function<Row()>& ready);

 private:
  Workbench& bench_;
  const KernelBenchOptions& options_;
  std::vector<KernelMeasurement>& rows_;
  const BeforeRow& before_row_;
  size_t done_ = 0;
};

}  // namespace moat::bench
