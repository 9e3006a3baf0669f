#include "cli/kernel_table.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/number_format.h"
#include "cli/table.h"

namespace moat::cli {

using nlohmann::ordered_json;

namespace {

double number(const ordered_json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : std::nan("");
}

std::string three_digits(double value) { return value == 0 ? "" : brief(value); }

}  // namespace

std::string kernel_table(const ordered_json& document) {
  const bool is_cpu = document.value("device", "") == "cpu";
  const auto flops = [&](const ordered_json& of, const char* key) {
    return number(of, key) * (is_cpu ? 1e3 : 1);
  };
  Table table({{"row"},
               {"µs", Align::right},
               {"quartiles", Align::right},
               {"GB/s", Align::right},
               {is_cpu ? "GFLOP/s" : "TFLOP/s", Align::right},
               {"% of roof", Align::right},
               {"size"}});
  for (const ordered_json& row : document["rows"]) {
    const std::string name = row["name"], scale = row.value("scale", "full");
    if (row.contains("failure")) {
      table.row({name, "–", "", "", "", "", row["failure"].get<std::string>()});
      continue;
    }
    const ordered_json& q = row["microseconds"];
    const bool is_long = q["median"].get<double>() >= 1e5;  // written in milliseconds
    const auto us = [&](const char* key) {
      const double value = q[key].get<double>() / (is_long ? 1e3 : 1);
      return fixed(value, value < 100 ? 1 : 0);
    };
    const std::string unit = is_long ? " ms" : "";
    table.row({name, us("median") + unit, us("low_quartile") + "–" + us("high_quartile") + unit,
               three_digits(number(row, "gbps")), three_digits(flops(row, "tflops")),
               fixed(100 * number(row, "part_of_roof"), 1), scale});
  }
  const ordered_json& ceilings = document["ceilings"];
  return table.str() + "roof: a large copy " + brief(number(ceilings, "copy_gbps")) +
         " GB/s, products " + brief(flops(ceilings, "products_tflops")) +
         (is_cpu ? " GFLOP/s" : " TFLOP/s") + ", both measured before the rows\n";
}

}  // namespace moat::cli
