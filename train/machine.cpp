#include "train/machine.h"

#include <omp.h>

#include <nlohmann/json.hpp>

#include "engine/build_info.h"

namespace moat::train {

using nlohmann::ordered_json;

ordered_json tool_json() {
  const engine::BuildInfo& build = engine::build_info();
  return {{"version", build.version},
          {"git", build.revision},
          {"build", build.type + ", " + build.compiler}};
}

ordered_json machine_json() {
  return {{"cpu", engine::cpu_model()}, {"threads", omp_get_max_threads()}};
}

}  // namespace moat::train
