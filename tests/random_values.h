#pragma once

// Input values for the kernel tests: the same for the same seed, on every machine.

#include <cstdint>
#include <random>
#include <vector>

namespace moat::tests {

inline std::vector<double> normals(size_t count, unsigned seed, double scale = 1) {
  std::mt19937 engine(seed);
  std::vector<double> values(count);
  for (double& x : values) {  // Irwin-Hall: the standard library's normals differ between machines
    x = -6;
    for (int i = 0; i < 12; ++i) x += static_cast<double>(engine()) * 0x1p-32;
    x *= scale;
  }
  return values;
}

// Integers in [from, to).
template <class T>
std::vector<T> integers(size_t count, unsigned seed, int from, int to) {
  std::mt19937 engine(seed);
  std::vector<T> values(count);
  for (T& x : values) x = static_cast<T>(from + static_cast<int>(engine() % unsigned(to - from)));
  return values;
}

}  // namespace moat::tests
