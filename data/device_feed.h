#pragma once

#include <array>
#include <memory>
#include <span>

#include "data/image_set.h"
#include "engine/cuda/runtime.h"

namespace moat::data {

// Brings the bytes of batches to a GPU while work runs there. They go through page-locked memory
// and a stream of their own into slots that are used in turn.
class DeviceFeed {
 public:
  static constexpr size_t kSlots = 3;  // one in use, two ahead

  // For batches of at most `batch` rows of the set. Waits for the work that the GPU has been given.
  DeviceFeed(const ImageSet& set, int64_t batch, engine::Device gpu);

  // bytes_of(set, rows) on the GPU, there when the call returns: views of the slot that the call
  // kSlots before gave, whose reader must be done.
  Batch bring(const ImageSet& set, std::span<const int32_t> rows);

 private:
  std::array<Batch, kSlots> slots_;
  size_t next_ = 0;
  // Shared, because only a build with CUDA can name what ends their lives. The stream comes last:
  // it waits for copies out of the memory.
  std::shared_ptr<uint8_t> pixels_;
  std::shared_ptr<int32_t> labels_, ids_;
  std::shared_ptr<engine::cuda::CopyStream> stream_;
};

}  // namespace moat::data
