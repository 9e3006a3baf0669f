// A file of another project, brought in as a small mixture.
#include "models/name_map.h"

#include "tests/fuzz/reader.h"
#include "tests/fuzz/tiny_mixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] {
    models::import_model(engine::parse_safetensors(fuzz::file_of(bytes, size), "file"),
                         fuzz::tiny_mixture(), "auto", "file");
  });
}
