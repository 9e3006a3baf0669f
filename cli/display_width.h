#pragma once

#include <string>
#include <string_view>

namespace moat::cli {

// Columns a UTF-8 text takes on a terminal: combining marks none, East Asian wide forms and emoji
// two. Control characters and bytes that are not UTF-8 count as one replacement character.
int display_width(std::string_view text);

// The longest beginning that fits, ending in "…" when something was cut off.
std::string fitted(std::string_view text, int columns);

// Control characters and bytes that are not UTF-8 become U+FFFD: nothing from a file reaches the
// terminal as an escape sequence.
std::string printable(std::string_view text);

}  // namespace moat::cli
