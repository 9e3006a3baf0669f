#include "engine/names.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"

namespace moat::engine {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest(std::string_view given, const std::vector<std::string>& known) {
  constexpr size_t kMost = 3, kLongest = 100, kShortestPart = 3;
  if (given.empty() || given.size() > kLongest) return {};
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& name : known) {
    const size_t distance = edit_distance(given, name);
    const bool contained = given.size() >= kShortestPart && name.find(given) != std::string::npos;
    if (contained || 3 * distance <= std::max(given.size(), name.size()))
      near.emplace_back(contained ? std::min<size_t>(distance, 1) : distance, name);
  }
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (auto& [distance, name] : near)
    if (names.size() < kMost && distance <= near.front().first + 1)
      names.push_back(std::move(name));
  return names;
}

std::string suggestion(std::string_view given, const std::vector<std::string>& known) {
  const std::vector<std::string> near = nearest(given, known);
  return near.empty() ? "" : "; did you mean " + listed(near) + "?";
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) list += i + 1 == names.size() ? " or " : ", ";
    list += names[i];
  }
  return list;
}

void refuse_name(std::string_view what, std::string_view given,
                 const std::vector<std::string>& known) {
  constexpr size_t kMostListed = 16;
  const std::string meant = suggestion(given, known);
  const std::string names = known.size() > kMostListed && !meant.empty()
                                ? text("one of ", known.size(), " names")
                                : listed(known);
  throw UsageError(text(what, " must be ", names, "; got '", given, "'", meant));
}

}  // namespace moat::engine
