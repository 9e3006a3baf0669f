#pragma once

namespace moat::cli {

// From here on the first Ctrl-C or request to end does not end the program: it is for who asks.
void catch_interrupts();
bool is_interrupted();

}  // namespace moat::cli
