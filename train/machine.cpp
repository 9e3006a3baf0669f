#include "train/machine.h"

#include <omp.h>

#include <nlohmann/json.hpp>

#include "engine/build_info.h"
#include "engine/cuda/runtime.h"

namespace moat::train {

using nlohmann::ordered_json;

ordered_json tool_json() {
  const engine::BuildInfo& build = engine::build_info();
  return {{"version", build.version},
          {"git", build.revision},
          {"build", build.type + ", " + build.compiler}};
}

ordered_json machine_json(engine::Device device) {
  ordered_json machine = {{"cpu", engine::cpu_model()}, {"threads", omp_get_max_threads()}};
  if constexpr (engine::kCudaBuilt)
    if (!device.is_cpu()) {
      machine["gpu"] = engine::cuda::properties(device.index).name;
      machine["driver"] = engine::cuda::driver_version();
      machine["cuda"] = engine::cuda::runtime_version();
    }
  return machine;
}

}  // namespace moat::train
