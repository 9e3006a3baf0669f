#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace moat::cli {

// Clean and robust accuracy of a dual model over the weight of its robust part. A point is
// accuracies_json() with its "alpha".
std::string mix_chart(const nlohmann::ordered_json& points, const std::string& title);  // SVG file
std::string mix_table(const nlohmann::ordered_json& points, int64_t images,
                      const std::string& protocol);

}  // namespace moat::cli
