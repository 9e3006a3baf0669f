#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace moat::train {

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

}  // namespace moat::train
