#include "bench/step_case.h"

#include <sys/resource.h>

#include <chrono>

#include "engine/memory.h"

namespace moat::bench {

namespace {

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts kilobytes
}

}  // namespace

CaseMeasurement measure(const Case& subject, const CaseOptions& options) {
  engine::use_precision(options.precision, options.device);
  engine::reset_peak_memory(options.device);  // a graph takes its memory when it is recorded
  const Work work = subject.prepare(options);
  // On a GPU the first run makes the libraries' plans, the second records the step.
  for (int i = 0; i < (options.device.is_cpu() ? 1 : 2); ++i) work.run();
  CaseMeasurement m{.seconds = {}, .images = work.images, .flops = 2 * work.macs};
  for (int i = 0; i < options.repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work.run();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    m.seconds.push_back(spent.count());
  }
  m.peak_rss_bytes = peak_rss_bytes();
  if (!options.device.is_cpu())
    m.peak_gpu_bytes = static_cast<int64_t>(engine::memory_use(options.device).peak);
  if (work.launches) m.launches = work.launches();
  return m;
}

}  // namespace moat::bench
