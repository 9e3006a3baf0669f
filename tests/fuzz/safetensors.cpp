#include "engine/io/safetensors.h"

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] { engine::parse_safetensors(fuzz::file_of(bytes, size), "file"); });
}
