#pragma once

// What tests of attacks share.

#include <algorithm>
#include <vector>

#include "attacks/attack.h"
#include "tests/models_fixture.h"

namespace moat::tests {

inline attacks::Victims victims_of(const engine::Tensor& images, const engine::Tensor& labels) {
  return {images, labels, row_numbers(images.dim(0)), {}};
}

inline int64_t count_fooled(const attacks::AttackResult& r) {
  return std::count_if(r.fooled_at.begin(), r.fooled_at.end(), [](int at) { return at >= 0; });
}

inline std::vector<float> values(const engine::Tensor& t) { return t.to_vector<float>(); }

}  // namespace moat::tests
