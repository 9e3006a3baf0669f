// The JSON in a checkpoint: what is taken must be written and read back the same.
#include <cstdlib>

#include "models/checkpoint.h"
#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] {
    const auto settings = models::parse_architecture(fuzz::file_of(bytes, size), "file");
    const std::string written = models::architecture_json(settings);
    const auto again = models::parse_architecture(written, "file");
    if (models::architecture_json(again) != written) std::abort();
  });
}
