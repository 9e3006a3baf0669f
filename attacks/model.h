#pragma once

#include <functional>

#include "engine/random.h"

namespace moat::attacks {

// Whether the input gradient also flows through a hard gate into the router, or is cut there; the
// route itself is always chosen by the current input. Dense models ignore it.
enum class Gate { open, blocked };

const char* name_of(Gate gate);

struct Outputs {
  engine::Tensor logits;        // [n, classes]
  engine::Tensor experts = {};  // int32 [n], the route of each image; undefined for a dense model
  engine::Tensor scores = {};   // [n, routes] of the router that chooses it; undefined without one
};

// A classifier as an attack sees it: images float32 [n, h, w, c] in [0, 1], recorded on the active
// tape. What it returns for an image must not depend on the rest of the batch.
struct Model {
  std::function<Outputs(const engine::Tensor& images, Gate gate)> forward;
  // Of a randomised model: the same with the noise of one pass, drawn by the images' ids, int32
  // [n], and the seed and iteration of a key; empty for others.
  std::function<Outputs(const engine::Tensor& images, Gate gate, const engine::Tensor& ids,
                        const engine::RandomKey& key)>
      randomised = {};
  // The auxiliary losses of each image's gates, [n], weighted as in training; empty for a model
  // without.
  std::function<engine::Tensor(const engine::Tensor& images)> auxiliary = {};
  bool routed = false;  // whether the gate makes a difference
  // The ways an image can take as a whole, and the logits along a given one for each image, int32
  // [n] below `routes`; empty for a model without them.
  int routes = 1;
  bool is_soft = false;  // an image's logits are those of several of them, weighed
  std::function<engine::Tensor(const engine::Tensor& images, const engine::Tensor& experts)> along =
      {};
};

}  // namespace moat::attacks
