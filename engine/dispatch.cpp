#include "engine/dispatch.h"

namespace moat::engine {

kernels::Context& context(Device device) {
  require(device.is_cpu(), "this build has no CUDA: use --device cpu");
  static thread_local kernels::Context cpu;
  return cpu;
}

}  // namespace moat::engine
