#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace moat::kernels {

// Splits [0, n) into contiguous ranges of at least `grain` items, one per OpenMP thread, and calls
// body(from, to) for each. A thread's range depends on n, grain and the thread count alone.
// One OpenMP pool serves these loops and oneDNN.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  if (n <= grain) {
    body(int64_t{0}, n);
    return;
  }
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), id = omp_get_thread_num();
    const int64_t ranges = std::min(threads, (n + grain - 1) / grain);
    if (id < ranges) body(n * id / ranges, n * (id + 1) / ranges);
  }
}

// Calls body(task, thread) for each task in [0, n), in any order, on whichever thread is free:
// what a task computes must depend on the task alone. `thread` < omp_get_max_threads().
template <class Body>
void parallel_tasks(int64_t n, Body&& body) {
#pragma omp parallel for schedule(dynamic) if (n > 1)
  for (int64_t task = 0; task < n; ++task) body(task, omp_get_thread_num());
}

}  // namespace moat::kernels
