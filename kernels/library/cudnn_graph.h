#pragma once

// cuDNN's backend interface (cudnn_graph.h) in a few values: descriptors that own their handle,
// tensors, engines with their knobs, and plans. Included by conv2d_cudnn.cpp alone.

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/target.h"

namespace moat::kernels::cudnn {

// A descriptor under construction. A call that fails makes it, and all that is made of it, fail.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);

  // `count` values of the attribute's type.
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                  const void* values);
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<Descriptor>& values);
  Descriptor& set(cudnnBackendAttributeName_t name, int64_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnDataType_t value);
  Descriptor& finalize();
  void require(bool succeeded);

  bool ok() const { return ok_; }
  cudnnBackendDescriptor_t get() const { return handle_.get(); }

 private:
  std::shared_ptr<void> handle_;
  bool ok_;
};

// [n, channels, height, width] in the order of cuDNN, in memory as channels-last. A virtual tensor
// never reaches memory.
enum class Memory { real, virtual_ };
Descriptor tensor(int64_t id, const std::array<int64_t, 4>& nchw, cudnnDataType_t type,
                  int64_t alignment, Memory memory);

// An engine and its settings, apart from the graph they were found for.
struct EngineChoice {
  int64_t engine = 0;
  std::vector<std::pair<cudnnBackendKnobType_t, int64_t>> knobs;
};

struct Plan {
  Descriptor descriptor;
  int64_t workspace_bytes;
};

// An engine and its plan for the graph that it was found for: building one takes its time.
struct PlannedChoice {
  EngineChoice engine;
  Plan plan;
};

// What an engine may do: always deterministic and without Winograd's or Fourier's roundings; with
// `exact` not on tensor cores, and nothing is converted down.
enum class Arithmetic { exact, tensor_cores };

// The graph of these operations.
Descriptor graph(cudnnHandle_t handle, const std::vector<Descriptor>& operations);
// The first engine that cuDNN's heuristics name, that keeps to the arithmetic and whose plan is
// legal and needs at most `most_workspace`.
std::optional<PlannedChoice> choose(cudnnHandle_t handle, const Descriptor& graph,
                                    Arithmetic arithmetic, int64_t most_workspace);
std::optional<Plan> plan_of(cudnnHandle_t handle, const Descriptor& graph,
                            const EngineChoice& choice);

}  // namespace moat::kernels::cudnn
