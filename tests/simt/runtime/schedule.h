#pragma once

#include <string>

namespace simt {

// Runs the threads of `block` until all have exited or it is stopped.
void run_threads();
// Where the threads of `block` are, for a report.
std::string who_waits();

}  // namespace simt
