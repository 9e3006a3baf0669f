#pragma once

#include <functional>

#include "engine/tensor.h"

namespace moat::attacks {

// Whether the input gradient also flows through a hard gate into the router, or is cut there; the
// route itself is always chosen by the current input. Dense models ignore it.
enum class Gate { open, blocked };

const char* name_of(Gate gate);

struct Outputs {
  engine::Tensor logits;   // [n, classes]
  engine::Tensor experts;  // int32 [n], the route of each image; undefined for a dense model
};

// A classifier as an attack sees it: images float32 [n, h, w, c] in [0, 1], recorded on the active
// tape. What it returns for an image must not depend on the rest of the batch.
struct Model {
  std::function<Outputs(const engine::Tensor& images, Gate gate)> forward;
  bool routed = false;
};

}  // namespace moat::attacks
