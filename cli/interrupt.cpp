#include "cli/interrupt.h"

#include <csignal>

namespace moat::cli {

namespace {

volatile std::sig_atomic_t interrupted = 0;
// The next one ends the program, whatever it is in the middle of.
extern "C" void on_interrupt(int signal) {
  interrupted = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

bool is_interrupted() { return interrupted != 0; }

}  // namespace moat::cli
