#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moat::engine {

// Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string
// alignment).
size_t edit_distance(std::string_view a, std::string_view b);

// The known names someone who typed `given` may have meant, nearest first, at most three: those
// within a third of the letters or that contain what was typed, and hardly farther than the
// nearest.
std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& known);

// "; did you mean a or b?", or "" when nothing is near.
std::string suggestion(std::string_view given, const std::vector<std::string>& known);

// "a, b or c"
std::string listed(const std::vector<std::string>& names);

// Throws UsageError: `what` must be one of `known`, `given` was given, and what may have been
// meant; many names are only counted where some are near.
[[noreturn]] void refuse_name(std::string_view what, std::string_view given,
                              const std::vector<std::string>& known);

// The first row whose name is `given`, or refuse_name(). name_of(row) is something a string is made
// of.
template <class Rows, class NameOf>
const auto& find_named(std::string_view what, std::string_view given, const Rows& rows,
                       NameOf&& name_of) {
  std::vector<std::string> known;
  for (const auto& row : rows) {
    if (given == name_of(row)) return row;
    known.emplace_back(name_of(row));
  }
  refuse_name(what, given, known);
}

}  // namespace moat::engine
