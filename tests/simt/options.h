#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

// Which of the threads that can run goes on.
enum class Schedule {
  fifo,    // the one that has been ready longest
  lifo,    // the one that became ready last
  random,  // any; blocks start in any order too
  sticky,  // one of the same warp as before, mostly
};

struct Options {
  Schedule schedule = Schedule::fifo;
  uint64_t seed = 1;
  double preempt = 0;       // probability that a thread is interrupted before a memory access
  int multiprocessors = 3;  // what the device says it has
  int most_reports = 8;     // per launch
  size_t device_memory = size_t{32} << 30;  // bytes: cudaMalloc fails beyond
  bool late_streams = false;                // work on a stream waits until something waits for it
  bool guard_device_memory = false;         // host code that touches device memory ends the program
};
Options& options();

// What the interpreter has done since the program started.
struct Statistics {
  uint64_t launches = 0, blocks = 0, threads = 0, switches = 0;
};
Statistics& statistics();

}  // namespace simt
