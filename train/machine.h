#pragma once

#include <nlohmann/json_fwd.hpp>

namespace moat::train {

// {"version", "git", "build"} of this program and {"cpu", "threads"} of this machine, as they stand
// in every file that holds a result.
nlohmann::ordered_json tool_json();
nlohmann::ordered_json machine_json();

}  // namespace moat::train
