#pragma once

#include <cstring>
#include <vector>

namespace moat::tests {

// Stricter than ==, for which -0 is 0, and NaN equals nothing.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace moat::tests
