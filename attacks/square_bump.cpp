#include "attacks/square_bump.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace moat::attacks {

namespace {

void normalise(std::vector<double>& values) {
  double squares = 0;
  for (double v : values) squares += v * v;
  for (double& v : values) v /= std::sqrt(squares);
}

// rows x columns of norm 1: a stack of squares of 1, 3, 5, … pixels around the centre.
std::vector<double> pyramid(int rows, int columns) {
  std::vector<double> out;
  const int most = std::max(rows / 2, columns / 2);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column) {
      const int distance = std::max(std::abs(row - rows / 2), std::abs(column - columns / 2));
      double height = 0;
      for (int c = distance; c <= most; ++c) height += 1.0 / ((c + 1) * (c + 1));
      out.push_back(height);
    }
  normalise(out);
  return out;
}

}  // namespace

std::vector<double> square_bump(int side) {
  std::vector<double> out;
  if (side > 1) out = pyramid(side / 2, side);
  for (double v : pyramid(side - side / 2, side)) out.push_back(-v);
  normalise(out);
  return out;
}

}  // namespace moat::attacks
