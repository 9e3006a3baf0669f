#define CATCH_CONFIG_CONSOLE_WIDTH 160  // a report is a line
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <map>

#include "tests/simt/options.h"

// Catch2's own options, and how the interpreter schedules threads.
int main(int argc, char** argv) {
  simt::Options& options = simt::options();
  std::string schedule = "fifo";
  Catch::Session session;
  using Catch::clara::Opt;
  session.cli(session.cli() |
              Opt(schedule, "fifo|lifo|random|sticky")["--schedule"]("which thread runs next") |
              Opt(options.seed, "number")["--seed"]("of random schedules") |
              Opt(options.preempt, "probability")["--preempt"](
                  "that a thread is interrupted before a memory access") |
              Opt(options.guard_device_memory)["--guard"](
                  "end with a report when host code touches device memory") |
              Opt(options.late_streams)["--late-streams"](
                  "work on a stream is done as late as can be: when something waits for it") |
              Opt(options.multiprocessors, "count")["--multiprocessors"]("of the device"));
  if (const int error = session.applyCommandLine(argc, argv)) return error;
  const std::map<std::string, simt::Schedule> schedules{{"fifo", simt::Schedule::fifo},
                                                        {"lifo", simt::Schedule::lifo},
                                                        {"random", simt::Schedule::random},
                                                        {"sticky", simt::Schedule::sticky}};
  const auto found = schedules.find(schedule);
  if (found == schedules.end()) {
    Catch::cerr() << "no schedule named " << schedule << ": fifo, lifo, random or sticky\n";
    return 2;
  }
  options.schedule = found->second;
  return session.run();
}
