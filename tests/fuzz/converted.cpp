// A data set in one file.
#include "data/converted.h"

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test})
    fuzz::may_refuse([&] { data::decode_converted({bytes, size}, "file", split); });
  return 0;
}
