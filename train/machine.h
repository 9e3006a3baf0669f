#pragma once

#include <nlohmann/json_fwd.hpp>

#include "engine/device.h"

namespace moat::train {

// {"version", "git", "build"} of this program and {"cpu", "threads"} of this machine, with {"gpu",
// "driver", "cuda"} for work on a GPU, as they stand in every file that holds a result.
nlohmann::ordered_json tool_json();
nlohmann::ordered_json machine_json(engine::Device device = {});

}  // namespace moat::train
