#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moat::cli {

// A document of kernel rows, as a table for people.
std::string kernel_table(const nlohmann::ordered_json& document);

}  // namespace moat::cli
