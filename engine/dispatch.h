#pragma once

#include "engine/cuda/runtime.h"
#include "engine/device.h"
#include "engine/error.h"
#include "engine/memory.h"
#include "kernels/library/context.h"
#include "kernels/target.h"

namespace moat::engine {

// The calling thread's library handles and primitive cache on a device.
kernels::Context& context(Device device);

// With MOAT_SYNC=1: until the call is done; throws what it did wrong in the name of `where`.
void wait_for_call(Device device, Where where);

// Runs a kernel where the data lives, the only switch between targets:
//   dispatch(x.device(), [&](auto on) { return kernels::softmax(on, {...}); });
// An op of several operands says common_device({x, weight}) for the device.
template <class Kernel>
void dispatch(Device device, Kernel&& kernel, Where where = Where::here()) {
  if (device.is_cpu()) return check(kernel(kernels::Cpu{&context(device)}), where);
  if constexpr (kCudaBuilt) {
    check(kernel(kernels::Cuda{&context(device), cuda::stream(device.index)}), where);
    if (cuda::waits_for_every_call()) wait_for_call(device, where);
  } else {
    throw Error("this build has no CUDA: use --device cpu", where);
  }
}

// As above for a kernel with scratch memory: workspace(on) says how many bytes it needs.
template <class Workspace, class Kernel>
requires requires(Workspace&& w) { size_t(w(kernels::Cpu{})); }
void dispatch(Device device, Workspace&& workspace, Kernel&& kernel, Where where = Where::here()) {
  dispatch(
      device,
      [&](auto on) {
        const Storage scratch(workspace(on), device);
        on.workspace = scratch.data();
        on.workspace_bytes = scratch.bytes();
        return kernel(on);
      },
      where);
}

}  // namespace moat::engine
