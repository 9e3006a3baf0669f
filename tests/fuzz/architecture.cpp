// The JSON in a checkpoint, and the parameters that a model of it would have.
#include "models/checkpoint.h"
#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] {
    const auto settings = models::parse_architecture(fuzz::file_of(bytes, size), "file");
    models::net_shape(settings);
    if (settings.experts > 1) models::router_shape(settings);
    const auto again = models::architecture_json(settings);
    engine::require(models::architecture_json(models::parse_architecture(again, "file")) == again,
                    "");
  });
}
