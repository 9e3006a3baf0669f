#include "engine/dispatch.h"

#include <map>

namespace moat::engine {

kernels::Context& context(Device device) {
  require(device.is_cpu() || kCudaBuilt, "this build has no CUDA: use --device cpu");
  static thread_local kernels::Context cpu;
  static thread_local std::map<int, kernels::Context> gpus;
  return device.is_cpu() ? cpu : gpus[device.index];
}

void wait_for_call(Device device, Where where) {
  if constexpr (kCudaBuilt) {
    if (cuda::is_capturing(device.index)) return;
    try {
      cuda::synchronize(device.index);
    } catch (const Error& error) {
      throw Error(text(error.what(), ", called at ", where.file, ":", where.line), where);
    }
  }
}

}  // namespace moat::engine
