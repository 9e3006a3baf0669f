#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/name_layouts.h"

namespace moat::models {

inline constexpr int kWhole = -1, kThirds = 3;

// What a project calls one of our tensors. '#' stands for a number and '*' for any text, and the
// other side has them in the same order.
struct NameRule {
  enum class Use { both, reading, silent };  // silent: left out without a word

  std::string_view project, theirs, ours;  // project empty: of any; ours empty: no part of the net
  Layout layout = Layout::same;
  Use use = Use::both;
  int third = kWhole;                 // of our first axis, where ours is three of theirs
  std::optional<Family> family = {};  // of this one alone
  std::string_view refusal = {};      // why a file with such a tensor cannot be imported
};

// In the order in which they are tried.
const std::vector<NameRule>& name_rules();

// What wrappers put in front of names, a dot behind it.
const std::vector<std::string_view>& name_prefixes();

// `name` by the pattern `from`, written by the pattern `to`; nothing when it does not match.
std::optional<std::string> renamed(std::string_view name, std::string_view from,
                                   std::string_view to);

}  // namespace moat::models
