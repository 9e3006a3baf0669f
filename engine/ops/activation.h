#pragma once

#include "engine/tape.h"

namespace moat::engine {

// What a fused op ends with.
enum class Activation { none, relu };

inline Source source_of(Activation activation) {
  return activation == Activation::relu ? Source::relu : Source::any;
}

}  // namespace moat::engine
