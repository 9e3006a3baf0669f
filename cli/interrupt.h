#pragma once

namespace moat::cli {

// From here on Ctrl-C and a request to end do not end the program: they are for who asks.
void catch_interrupts();
bool is_interrupted();

}  // namespace moat::cli
