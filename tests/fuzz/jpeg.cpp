#include "data/jpeg.h"

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] { data::decode_jpeg({bytes, size}); });
}
