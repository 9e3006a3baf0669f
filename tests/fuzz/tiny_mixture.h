#pragma once

#include "tests/models_fixture.h"

namespace moat::fuzz {

// A mixture whose file is as short as a mixture's can be.
inline models::ClassifierSettings tiny_mixture() {
  models::ClassifierSettings s = tests::tiny_moe(2);
  s.blocks = s.router.blocks = {1};
  s.widths = {2};
  s.router.widths = {1};
  s.stem_width = s.classes = 2;
  s.height = s.width = 4;
  s.channels = 1;
  return s;
}

}  // namespace moat::fuzz
