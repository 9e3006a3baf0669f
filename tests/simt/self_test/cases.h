#pragma once

#include <string>
#include <vector>

namespace simt::self_test {

// A kernel with a fault. Its launch must throw a report with each of these texts in it; "line X"
// stands for the file and line of the source that ends in the comment "// X".
struct Fault {
  const char* name;
  void (*run)();
  std::vector<std::string> says;
};
const std::vector<Fault>& memory_faults();
const std::vector<Fault>& race_faults();
const std::vector<Fault>& convergence_faults();

// A kernel without one: it must run without a report, whatever the schedule, and return true.
struct Sound {
  const char* name;
  bool (*run)();
};
const std::vector<Sound>& sound_kernels();

}  // namespace simt::self_test
