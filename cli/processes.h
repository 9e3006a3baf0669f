#pragma once

#include <functional>
#include <string>
#include <vector>

namespace moat::cli {

struct Job {
  std::string name;  // for errors
  std::function<void()> run;
  std::vector<size_t> after;  // earlier jobs that must have ended
};

// Runs each job in a process of its own, at most `at_once` (2 or more) at a time and begun in their
// order; `ended` is called here with the number of those that have. A job's error, a crash or
// is_interrupted() begins no other one: those that run end as they do on Ctrl-C, then an Error says
// what happened. For the CPU: this process must not have used a GPU, or its OpenMP threads.
void run_in_processes(const std::vector<Job>& jobs, int at_once,
                      const std::function<void(size_t)>& ended);

}  // namespace moat::cli
