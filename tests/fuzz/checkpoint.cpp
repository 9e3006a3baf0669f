// A model's file, its architecture included.
#include "models/checkpoint.h"
#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] {
    models::from_file(engine::parse_safetensors(fuzz::file_of(bytes, size), "file"), "file");
  });
}
