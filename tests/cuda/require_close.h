#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

namespace moat::tests {

// |y - reference| <= tolerance max(1, |reference|); NaN and infinities in the same places.
inline void require_close(const std::vector<double>& y, const std::vector<double>& reference,
                          double tolerance) {
  REQUIRE(y.size() == reference.size());
  for (size_t i = 0; i < y.size(); ++i) {
    INFO("element " << i << ": " << y[i] << ", reference " << reference[i]);
    if (std::isnan(reference[i]))
      REQUIRE(std::isnan(y[i]));
    else if (std::isinf(reference[i]))
      REQUIRE(y[i] == reference[i]);
    else
      REQUIRE(std::abs(y[i] - reference[i]) <= tolerance * std::max(1.0, std::abs(reference[i])));
  }
}

}  // namespace moat::tests
