#include "train/methods.h"

#include "engine/names.h"

namespace moat::train {

using namespace engine;

Step find_method(const std::string& name) {
  struct Row {
    const char* name;
    Step step;
  };
  static constexpr Row rows[] = {{"natural", natural_step}, {"at", at_step},
                                 {"trades", trades_step},   {"mart", mart_step},
                                 {"advmoe", advmoe_step},   {"rt-er", rt_er_step},
                                 {"jtdmoe", jtdmoe_step}};
  return find_named("train.method", name, rows, [](const Row& row) { return row.name; }).step;
}

}  // namespace moat::train
