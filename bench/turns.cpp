#include "bench/turns.h"

#include <exception>

#include "engine/error.h"

namespace moat::bench {

Turns::Turns(Workbench& bench, const KernelBenchOptions& options,
             std::vector<KernelMeasurement>& rows, const BeforeRow& before_row)
    : bench_(bench), options_(options), rows_(rows), before_row_(before_row) {}

void Turns::next(const std::function<Row()>& ready) {
  if (options_.stop_requested && options_.stop_requested()) return;
  KernelMeasurement& row = rows_[done_ % rows_.size()];
  before_row_(row.name, static_cast<int64_t>(done_), std::ssize(rows_) * options_.rounds);
  ++done_;
  try {
    engine::require(KernelBenchOptions::Clock::now() <= options_.until, "no time left");
    const Row made = ready();
    row.bytes = made.bytes;
    row.flops = made.flops;
    const std::vector<double> seconds = bench_.seconds(made.run, options_.budget);
    row.seconds.insert(row.seconds.end(), seconds.begin(), seconds.end());
    row.clocks = bench_.clocks();
  } catch (const std::exception& e) {
    row.failure = e.what();
  }
}

}  // namespace moat::bench
