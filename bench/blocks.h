#pragma once

#include <memory>
#include <vector>

#include "bench/workbench.h"

namespace moat::bench {

// N(0, 1), a million values of them, whose number is no multiple of a row's width.
struct NormalValues {
  std::vector<float> single;
  std::vector<kernels::Bf16> rounded;
};
NormalValues normal_values();

// What a benchmark's tensors lie in: blocks of the target's memory, and a workspace that grows.
class Blocks {
 public:
  Blocks(Workbench& bench, const NormalValues& normals) : bench_(bench), normals_(normals) {}

  void* block(double elements, kernels::Dtype dtype);
  void* normal_block(double elements, kernels::Dtype dtype);  // float32 or bfloat16
  void upload(void* to, const void* from, size_t bytes) { bench_.upload(to, from, bytes); }

  // The target with a workspace of this size, good until a larger one is asked for.
  template <class On>
  On with_workspace(On on, size_t bytes) {
    reserve(bytes);
    on.workspace = workspace_.get();
    on.workspace_bytes = workspace_bytes_;
    return on;
  }

 private:
  void reserve(size_t bytes);

  Workbench& bench_;
  const NormalValues& normals_;
  std::vector<std::shared_ptr<void>> blocks_;
  std::shared_ptr<void> workspace_;
  size_t workspace_bytes_ = 0;
};

}  // namespace moat::bench
